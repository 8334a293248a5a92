"""Every refusal that Prime Intellect is known to give is one class of our errors, and says what to do."""

from __future__ import annotations

import json

import pytest

from runner_provisioner._http import Answer
from runner_provisioner.errors import (
    ApiRetired,
    AuthenticationFailed,
    CapacityUnavailable,
    InsufficientFunds,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    ProtocolViolation,
    RateLimited,
    RemoteError,
    RunnerProvisionerError,
    ServerError,
    Timeout,
)
from runner_provisioner.providers.prime.failures import NO_SUCH_ROUTE, TABLE, Reader, detail, row_of

READER = Reader(redact=lambda text: text.replace("s3cr3t", "***"))
FIELD = [{"loc": ["body", "pod", "name"], "msg": "String too long", "type": "string", "input": "s3cr3t-value"}]


def answer(status: int, body: object = None) -> Answer:
    """A refusal."""
    return Answer(
        status=status, body=b"" if body is None else json.dumps(body).encode(), headers={"x-request-id": "r1"}
    )


ROWS: list[tuple[str, int, object, type[RunnerProvisionerError]]] = [
    ("key", 401, "Invalid or missing API key", AuthenticationFailed),
    ("key-without-words", 401, None, AuthenticationFailed),
    ("funds", 402, "Payment required", InsufficientFunds),
    ("forbidden", 403, "Forbidden", AuthenticationFailed),
    ("forbidden-without-words", 403, None, AuthenticationFailed),
    ("forbidden-for-funds", 403, "Your wallet has insufficient funds", InsufficientFunds),
    ("forbidden-for-balance", 403, "Balance too low", InsufficientFunds),
    ("permission", 403, "API key does not have the permission Instances -> Read and write", PermissionDenied),
    ("team", 403, "You are not a member of this team", PermissionDenied),
    ("gone", 404, "Pod not found", NotFound),
    ("no-route", 404, "Not Found", ProtocolViolation),
    ("gateway", 404, None, ProtocolViolation),
    ("no-capacity", 400, "No capacity in region", CapacityUnavailable),
    ("capacity", 400, "Capacity exhausted", CapacityUnavailable),
    ("unavailable", 400, "GPU unavailable", CapacityUnavailable),
    ("out-of-stock", 400, "H100 is out of stock", CapacityUnavailable),
    ("insufficient", 400, "Insufficient resources on host", CapacityUnavailable),
    ("not-available", 400, "Requested configuration is not available", CapacityUnavailable),
    ("quota", 400, "Quota exceeded", CapacityUnavailable),
    ("limit", 400, "Instance limit exceeded", CapacityUnavailable),
    ("funds-as-400", 400, "Insufficient funds in wallet", InsufficientFunds),
    ("spend-limit-as-400", 400, "Spending limit exceeded", InsufficientFunds),
    ("missing-field", 400, "Missing field: max_price not specified", InvalidRequest),
    ("other-400", 400, None, InvalidRequest),
    ("method", 405, "Method Not Allowed", InvalidRequest),
    ("slow", 408, None, Timeout),
    ("state", 409, "Pod is being deleted", InvalidRequest),
    ("retired", 410, "Gone", ApiRetired),
    ("fields", 422, FIELD, InvalidRequest),
    ("pace", 429, "Rate limit exceeded. Please try again later.", RateLimited),
    ("internal", 500, "Internal server error", ServerError),
    ("gateway-5xx", 502, None, ServerError),
    ("overloaded", 503, "Service unavailable", ServerError),
    ("teapot", 418, "short and stout", ProtocolViolation),
]


@pytest.mark.parametrize(("status", "said", "error"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_each_refusal_is_its_class(status: int, said: object, error: type[RunnerProvisionerError]) -> None:
    """With its place, its request's id, and one line that says what to do."""
    found = READER.error(answer(status, None if said is None else {"detail": said}), "createPod")
    assert type(found) is error
    assert "\n" not in str(found)
    if isinstance(found, RemoteError):
        assert (found.service, found.operation, found.request_id) == ("prime", "createPod", "r1")
        assert found.code


def test_every_row_of_the_table_is_reached() -> None:
    """By the cases above."""
    reached = {row_of(status, _said(said)).id for _, status, said, _ in ROWS}
    assert reached - {"other"} == {row.id for row in TABLE}


def _said(said: object) -> str:
    return detail(json.dumps({"detail": said}).encode())


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_success_is_no_refusal(status: int) -> None:
    """Whatever the body says."""
    assert READER.error(answer(status, {"detail": "unavailable"}), "x") is None


def test_a_wrong_field_is_named_and_its_value_is_not() -> None:
    """A value may be a secret."""
    found = READER.error(answer(422, {"detail": FIELD}), "createPod")
    assert "body.pod.name: String too long" in str(found)
    assert "s3cr3t" not in str(found)


def test_what_was_said_is_redacted_and_cut() -> None:
    """On one line."""
    found = READER.error(answer(500, {"detail": "s3cr3t\n" + "x" * 1000}), "listPods")
    assert "*** xxx" in str(found)
    assert len(str(found)) < 400


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param(b'{"detail": "a"}', "a", id="text"),
        pytest.param(b'{"detail": ["a", {"msg": "b"}, 3]}', "a / b", id="several"),
        pytest.param(b'{"error": {"message": "m", "code": "c"}}', "m", id="error object"),
        pytest.param(b'{"message": "m"}', "m", id="message"),
        pytest.param(b'{"detail": 5}', "", id="number"),
        pytest.param(b"[1]", "", id="list"),
        pytest.param(b"<html>", "", id="page"),
        pytest.param(b"[" * 100_000, "", id="too deep"),
    ],
)
def test_every_form_of_an_error_is_read(body: bytes, said: str) -> None:
    """And what is none says nothing."""
    assert detail(body) == said


@pytest.mark.parametrize("operation", ["listPods", "listSshKeys", "podHistory", "gpuSummary"])
def test_a_list_that_is_not_there_is_another_service_s_address(operation: str) -> None:
    """Whatever that service says: an id to be looked up is nobody's problem."""
    found = READER.error(answer(404, {"detail": "no such page"}), operation)
    assert isinstance(found, ProtocolViolation)
    assert "PRIME_API_BASE_URL" in str(found)


def test_a_404_without_words_has_a_code_of_its_own() -> None:
    """So that the caller looks twice before it believes that something is gone."""
    found = READER.error(answer(404, {"detail": "Not Found"}), "getPod")
    assert isinstance(found, ProtocolViolation)
    assert found.code == NO_SUCH_ROUTE
