"""The application: the three contracts, and what watches over a service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Scope

from runner_provisioner.controller import cloud, machines, pods
from runner_provisioner.controller.docs import add_docs
from runner_provisioner.controller.failures import Told, contract_of, told
from runner_provisioner.controller.gate import Gate
from runner_provisioner.controller.parts import Parts, parts_of
from runner_provisioner.controller.route import log_failure, log_refusal, response_of
from runner_provisioner.domain.api_keys import Permission
from runner_provisioner.errors import RunnerProvisionerError

Opened = Callable[[], AbstractAsyncContextManager[Parts]]
_ABOUT = """
Rent, list, stop and end GPU pods over every provider that this installation has a key for, in three dialects.

Every create takes an `Idempotency-Key`: a repeated request never rents twice. A pod ends after 24 hours unless it was
asked for with another lifetime.
"""

_ROUTERS = (pods.router, cloud.router, machines.router)
_KEYS = "A key of `runner-provisioner keys create`; needed once there is one."


def create_app(opened: Opened, *, hosts: tuple[str, ...] = ()) -> FastAPI:
    """The application over what `opened` gives for as long as it is served; `hosts` are names it answers to."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with opened() as parts:
            app.state.parts = parts
            yield

    app = FastAPI(
        title="runner-provisioner",
        summary="Three pods APIs over every provider",
        description=_ABOUT,
        version=version("runner-provisioner"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(Gate, hosts=hosts, on_refusal=_turned_away)
    for router in _ROUTERS:
        app.include_router(router)
    app.add_api_route("/healthz", _healthz, methods=["GET", "HEAD"], include_in_schema=False)
    app.add_api_route("/readyz", _readyz, methods=["GET", "HEAD"], include_in_schema=False)
    app.add_api_route("/metrics", _metrics, include_in_schema=False)
    for kind in (RunnerProvisionerError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _fail)
    _describe_keys(app)
    add_docs(app)
    return app


def _describe_keys(app: FastAPI) -> None:
    """Say in the description that every route of a contract takes a key, which its `ContractRoute` looks at."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        schema = plain()
        schemes = schema.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes["key"] = {"type": "http", "scheme": "bearer", "description": _KEYS}
        schema["security"] = [{"key": []}]
        return schema

    app.openapi = described  # type: ignore[method-assign] # FastAPI's documented way


async def _healthz() -> dict[str, str]:
    """It runs."""
    return {"status": "ok"}


async def _readyz(request: Request) -> Response:
    """It can serve: what it keeps can be kept."""
    parts = parts_of(request)
    reason = await parts.readiness.why_not()
    if reason:
        said = {"status": "not ready", "reason": reason}
        return JSONResponse(said, status_code=503, headers={"retry-after": "10"})
    return JSONResponse({"status": "ready", "providers": list(parts.providers)})


async def _metrics(request: Request) -> Response:
    """For Prometheus; with a key that may read, where there are keys."""
    parts = parts_of(request)
    (await parts.access.admit(request.headers.get("authorization"))).check(Permission.READ)
    return Response(parts.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _turned_away(scope: Scope, said: Told) -> None:
    """What the gate refuses is counted and logged like any other refusal; nothing behind it has heard of it."""
    parts: Parts = scope["app"].state.parts
    parts.metrics.request("gate", said.status, 0.0, said.kind)
    log_refusal("gate", said)


async def _fail(request: Request, error: Exception) -> Response:
    """What went wrong outside the contracts' own routes, an unknown path for one."""
    said = told(error, contract_of(request.url.path), parts_of(request).redact)
    if said.status == HTTPStatus.METHOD_NOT_ALLOWED:
        said = replace(said, headers={"allow": _allowed(request)})
    operation = "metrics" if request.url.path == "/metrics" else "unknown"  # paths are as many as callers like
    parts_of(request).metrics.request(operation, said.status, 0.0, said.kind)
    log_failure(request.url.path[:80], error, said)
    return response_of(request, said, parts_of(request).redact)


def _allowed(request: Request) -> str:
    """The methods of all routes of the path: Starlette names those of the first one alone."""
    routes = [*request.app.routes, *(route for router in _ROUTERS for route in router.routes)]
    fitting = (one for one in routes if isinstance(one, Route) and one.path_regex.match(request.url.path))
    return ", ".join(sorted({method for one in fitting for method in one.methods or ()}))
