"""The REST server's mechanics: routes, credentials, permissions, limits, pages, redirects and errors.

What each route does is in rest_apps.py, rest_runners.py and rest_runs.py; operation names (for faults and the record
of calls) are those of the routes there.
"""

from __future__ import annotations

import json
import math
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

from runner_provisioner.simulators.github.entities import Account, ApiError, Repository, not_found
from runner_provisioner.simulators.github.limits import Limits
from runner_provisioner.simulators.github.runs import Runs
from runner_provisioner.simulators.github.shapes import Shapes
from runner_provisioner.simulators.github.state import World
from runner_provisioner.simulators.github.tokens import Principal
from runner_provisioner.simulators.github.validation import (
    ResponseViolation,
    SchemaRequest,
    SchemaResponse,
    check_request,
    check_response,
)

DOCUMENTATION = "https://docs.github.com/rest"
API_VERSIONS = ("2022-11-28", "2026-03-10")
DEFAULT_PAGE, LARGEST_PAGE = 30, 100
ENTERPRISE_PREFIX = "/api/v3"
_BY_ID = re.compile(r"/repositories/(\d+)(/.*)?")


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a handler answers; a `value` of None is an empty body."""

    status: int = 200
    value: object | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(kw_only=True, eq=False)
class Exchange:
    """One request on its way through the server."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: Mapping[str, str]
    body: bytes
    origin: str
    prefix: str = ""
    world: World
    runs: Runs
    params: dict[str, str] = field(default_factory=dict)
    principal: Principal = field(default_factory=lambda: Principal(kind="nobody", name="nobody"))
    found_repository: Repository | None = None
    found_organisation: Account | None = None

    @property
    def api(self) -> str:
        """The address of the API as the client sees it."""
        return self.origin + self.prefix

    @property
    def shapes(self) -> Shapes:
        """JSON shapes for this client."""
        return Shapes(self.api, self.origin)

    @property
    def repository(self) -> Repository:
        """The repository in the path."""
        if self.found_repository is None:
            raise not_found()
        return self.found_repository

    @property
    def scope(self) -> str:
        """The registration scope in the path: repository or organisation."""
        if self.found_organisation is not None:
            return self.found_organisation.login.lower()
        return self.repository.key

    def number(self, name: str) -> int:
        """A number in the path."""
        return int(self.params[name])

    def argument(self, name: str) -> str | None:
        """A query parameter, the last one when repeated."""
        return dict(self.query).get(name)

    def content(self) -> dict[str, Any]:
        """The JSON body; empty when there is none."""
        loaded = json.loads(self.body) if self.body else None
        return loaded if isinstance(loaded, dict) else {}

    def page(self, name: str, items: Sequence[object], **more: object) -> Reply:
        """One page of a list, with the Link header GitHub sends."""
        size = min(LARGEST_PAGE, max(1, int(self.argument("per_page") or DEFAULT_PAGE)))
        number = max(1, int(self.argument("page") or 1))
        last = max(1, math.ceil(len(items) / size))
        wanted = {"prev": number - 1, "next": number + 1, "first": 1, "last": last}
        if number == 1:
            del wanted["prev"], wanted["first"]
        if number >= last:
            del wanted["next"], wanted["last"]
        links = ", ".join(f'<{self._page_address(target)}>; rel="{rel}"' for rel, target in wanted.items())
        content = {"total_count": len(items), **more, name: items[(number - 1) * size : number * size]}
        return Reply(value=content, headers={"link": links} if links else {})

    def _page_address(self, number: int) -> str:
        query = [(key, value) for key, value in self.query if key != "page"] + [("page", str(number))]
        return f"{self.api}{self.path}?{urlencode(query)}"


Handler = Callable[[Exchange], Reply]


@dataclass(frozen=True, kw_only=True)
class Route:
    """One operation. `permission` is (name, level); `caller` says which credential: token, app or any."""

    method: str
    template: str
    operation: str
    handler: Handler
    permission: tuple[str, str] | None = None
    caller: str = "token"
    free: bool = False

    @property
    def pattern(self) -> re.Pattern[str]:
        """The template as a regular expression."""
        return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.template))


def find_route(routes: Sequence[Route], method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """The route of a request and what its path names."""
    for route in routes:
        match = route.pattern.fullmatch(path) if route.method == method else None
        if match is not None:
            return route, match.groupdict()
    return None


class Rest:
    """Turns requests into answers; holds no state but the limits."""

    def __init__(self, world: World, runs: Runs, routes: Sequence[Route]) -> None:
        self._world = world
        self._runs = runs
        self._routes = routes
        self._limits = Limits(world.settings)

    def exchange(
        self, method: str, path: str, query_string: str, headers: Mapping[str, str], body: bytes, origin: str
    ) -> Exchange:
        """A request, its path freed from what the address adds."""
        prefix = ENTERPRISE_PREFIX if path.startswith(ENTERPRISE_PREFIX + "/") else ""
        return Exchange(
            method=method,
            path=self._by_name(path.removeprefix(prefix)),
            query=parse_qsl(query_string, keep_blank_values=True),
            headers=headers,
            body=body,
            origin=origin,
            prefix=prefix,
            world=self._world,
            runs=self._runs,
        )

    def _by_name(self, path: str) -> str:
        match = _BY_ID.fullmatch(path)
        if match is None:
            return path
        for repository in self._world.repositories.values():
            if repository.id == int(match[1]):
                return f"/repos/{repository.full_name}{match[2] or ''}"
        return path

    def route(self, exchange: Exchange) -> Route | None:
        """What is asked for; the names in the path are noted in the exchange."""
        found = find_route(self._routes, exchange.method, exchange.path)
        if found is None:
            return None
        route, exchange.params = found
        return route

    def respond(self, exchange: Exchange, route: Route | None) -> tuple[int, bytes, dict[str, str]]:
        """Do it, and check both directions against the schema; status, body and headers of the answer."""
        with self._world.lock:
            self._runs.lapse()
            try:
                reply = self._reply(exchange, route)
            except ApiError as error:
                reply = self._error(error)
        body = b"" if reply.value is None else json.dumps(reply.value).encode()
        headers = {**self._common_headers(exchange, route), **reply.headers}
        if route is not None:
            problem = self._violation(exchange, route, reply.status, headers, body)
            if problem is not None:
                return 500, json.dumps({"message": problem}).encode(), headers
        return reply.status, body, headers

    def _reply(self, exchange: Exchange, route: Route | None) -> Reply:
        if not exchange.headers.get("user-agent"):
            text = "Request forbidden by administrative rules. Please make sure your request has a User-Agent header"
            raise ApiError(403, text)
        if exchange.headers.get("x-github-api-version", API_VERSIONS[0]) not in API_VERSIONS:
            raise ApiError(400, "Invalid API version")
        exchange.principal = self._caller(exchange, route)
        if route is None:
            raise not_found()
        if not route.free:
            self._limits.spend(exchange.principal.name, exchange.method, self._world.clock.now())
        self._find(exchange, route)
        self._permit(exchange, route)
        self._check_request(exchange)
        if route.operation == "rate_limit":
            return self._rate_limit(exchange)
        return route.handler(exchange)

    def _caller(self, exchange: Exchange, route: Route | None) -> Principal:
        principal = self._world.credentials.authenticate(exchange.headers.get("authorization", ""))
        caller = "any" if route is None else route.caller
        if caller == "app" and principal.kind != "app":
            raise ApiError(401, "A JSON web token could not be decoded")
        if caller == "token" and principal.kind == "app":
            text = "Bad credentials: a JSON web token may be used on the endpoints of an App only"
            raise ApiError(401, text)
        return principal

    def _find(self, exchange: Exchange, route: Route) -> None:
        params = exchange.params
        if "org" in params:
            account = self._world.organisation(params["org"])
            if not exchange.principal.sees_account(account):
                raise not_found()
            exchange.found_organisation = account
        if "repo" not in params:
            return
        full_name = f"{params['owner']}/{params['repo']}"
        moved = self._world.renamed.get(full_name.lower())
        if moved is not None and full_name.lower() not in self._world.repositories:
            raise self._moved(exchange, moved, full_name)
        repository = self._world.repository(full_name)
        if route.caller == "token" and not exchange.principal.sees(repository):
            raise not_found()
        exchange.found_repository = repository

    @staticmethod
    def _moved(exchange: Exchange, repository: Repository, old_name: str) -> ApiError:
        rest = exchange.path.removeprefix(f"/repos/{old_name}")
        address = f"{exchange.api}/repositories/{repository.id}{rest}"
        status = 301 if exchange.method == "GET" else 307
        return ApiError(status, "Moved Permanently", headers={"location": address}, url=address)

    @staticmethod
    def _permit(exchange: Exchange, route: Route) -> None:
        if route.permission is None or route.caller != "token":
            return
        name, level = route.permission
        if not exchange.principal.may(name, level):
            raise ApiError(403, exchange.principal.refusal)

    def _check_request(self, exchange: Exchange) -> None:
        try:
            check_request(self._schema_request(exchange))
        except ApiError as error:
            self._world.violations.append(f"request {exchange.method} {exchange.path}: {error.message}")
            raise

    @staticmethod
    def _schema_request(exchange: Exchange) -> SchemaRequest:
        return SchemaRequest(exchange.method, exchange.path, exchange.query, exchange.headers, exchange.body)

    def _violation(
        self, exchange: Exchange, route: Route, status: int, headers: Mapping[str, str], body: bytes
    ) -> str | None:
        try:
            check_response(self._schema_request(exchange), route.template, SchemaResponse(status, headers, body))
        except ResponseViolation as violation:
            self._world.violations.append(f"response {violation}")
            return str(violation)
        return None

    def _rate_limit(self, exchange: Exchange) -> Reply:
        core = self._limits.figures(exchange.principal.name, self._world.clock.now())
        search = {"limit": 30, "remaining": 30, "reset": core["reset"], "used": 0}
        return Reply(value={"resources": {"core": core, "search": search}, "rate": core})

    @staticmethod
    def _error(error: ApiError) -> Reply:
        content = {"message": error.message, "documentation_url": DOCUMENTATION, "status": str(error.status)}
        if error.url is not None:
            content["url"] = error.url
        if error.status == 422:  # noqa: PLR2004 - the one error whose schema has no status
            del content["status"]
        return Reply(status=error.status, value=content, headers=error.headers)

    def _common_headers(self, exchange: Exchange, route: Route | None) -> dict[str, str]:
        headers = {
            "content-type": "application/json; charset=utf-8",
            "x-github-media-type": "github.v3; format=json",
            "x-github-request-id": uuid.uuid4().hex[:20].upper(),
            "x-github-api-version-selected": exchange.headers.get("x-github-api-version", API_VERSIONS[0]),
        }
        if exchange.principal.kind != "nobody":
            headers |= self._limits.headers(exchange.principal.name, self._world.clock.now())
        if exchange.principal.kind == "classic":
            headers["x-oauth-scopes"] = ", ".join(exchange.principal.permissions)
        if route is not None and route.permission is not None:
            headers["x-accepted-github-permissions"] = "=".join(route.permission)
        return headers
