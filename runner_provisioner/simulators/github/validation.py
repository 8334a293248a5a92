"""Every exchange is held against GitHub's published schema (openapi-core on data/github-openapi-subset.json)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from openapi_core import Config, OpenAPI
from openapi_core.datatypes import RequestParameters
from openapi_core.exceptions import OpenAPIError
from openapi_core.validation.request.exceptions import ParameterValidationError, RequestBodyValidationError
from werkzeug.datastructures import Headers, ImmutableMultiDict

from runner_provisioner.simulators.github.entities import ApiError

HOST = "https://api.github.com"
ERROR_KEYS = frozenset({"message", "documentation_url", "status", "errors", "url"})


class ResponseViolation(Exception):
    """The simulator answered something that GitHub's schema does not allow: a bug of the simulator."""


class SchemaRequest:
    """A request in the shape that openapi-core reads."""

    def __init__(
        self, method: str, path: str, query: Sequence[tuple[str, str]], headers: Mapping[str, str], body: bytes
    ) -> None:
        self.host_url = HOST
        self.path = path
        self.method = method.lower()
        self.body = body or None
        self.content_type = "application/json"
        self.parameters = RequestParameters(
            query=ImmutableMultiDict(list(query)), header=Headers(dict(headers)), cookie=ImmutableMultiDict()
        )


class SchemaResponse:
    """A response in the shape that openapi-core reads."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status_code = status
        self.headers = Headers(dict(headers))
        self.content_type = "application/json"
        self.data = body or None


@cache
def _document() -> dict[str, Any]:
    path = resources.files("runner_provisioner.simulators") / "data" / "github-openapi-subset.json"
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


@cache
def _schema() -> OpenAPI:
    # A test holds the document against OpenAPI's own schema; here that would cost every start half a second.
    return OpenAPI.from_dict(_document(), config=Config(spec_validator_cls=None))


def documented(template: str, method: str) -> frozenset[int]:
    """The statuses the schema names for an operation; KeyError when the operation is not in it."""
    return frozenset(int(status) for status in _document()["paths"][template][method.lower()]["responses"])


def check_request(request: SchemaRequest) -> None:
    """Raise the ApiError that GitHub would answer: 400 no JSON, 404 for an impossible path, 422 for the rest."""
    if request.body:
        try:
            json.loads(request.body)
        except ValueError as error:
            raise ApiError(400, "Problems parsing JSON") from error
    try:
        _schema().validate_request(request)
    except RequestBodyValidationError as error:
        raise ApiError(422, f"Invalid request.\n\n{_reason(error)}") from error
    except ParameterValidationError as error:
        status = 404 if str(error).startswith("Path") else 422
        raise ApiError(status, f"Invalid request.\n\n{_reason(error)}") from error


def check_response(request: SchemaRequest, template: str, response: SchemaResponse) -> None:
    """Raise ResponseViolation when the answer is not as published.

    A status that the schema leaves out (it names few errors) must carry GitHub's common error shape.
    """
    if response.status_code in documented(template, request.method):
        try:
            _schema().validate_response(request, response)
        except OpenAPIError as error:
            raise ResponseViolation(f"{request.method} {template} {response.status_code}: {_reason(error)}") from error
        return
    content = json.loads(response.data or b"null")
    if response.status_code < 300 or not isinstance(content, dict) or not set(content) <= ERROR_KEYS:  # noqa: PLR2004
        raise ResponseViolation(f"{request.method} {template} {response.status_code} is not documented")


def _reason(error: OpenAPIError) -> str:
    return f"{error} {error.__cause__ or ''}".strip()[:1000]
