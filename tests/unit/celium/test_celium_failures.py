"""Every refusal that Lium is known to give is one class of our errors, and says what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from runner_provisioner._http import Answer
from runner_provisioner.errors import (
    ApiRetired,
    AuthenticationFailed,
    CreateOutcomeUnknown,
    InsufficientFunds,
    InvalidRequest,
    NotFound,
    OfferGone,
    PermissionDenied,
    ProtocolViolation,
    ProviderError,
    RateLimited,
    RemoteError,
    RunnerProvisionerError,
    ServerError,
)
from runner_provisioner.providers.celium.failures import (
    IN_PROGRESS,
    NO_METHOD,
    NO_ROUTE,
    RENT,
    TABLE,
    UNKNOWN_OUTCOME,
    KeyReused,
    Reader,
    read,
)

PLANTED = "sk_PLANTED0000"
READER = Reader(redact=lambda text: text.replace(PLANTED, "***"))
Body = Mapping[str, object] | str


def enveloped(message: str, code: str | None = None) -> dict[str, object]:
    """As today's servers say it."""
    error = {"code": code, "message": message, "hint": None, "request_id": "req-1"}
    return {"success": False, "error": error, "message": message}


def detail(said: object) -> dict[str, object]:
    """As older servers say it."""
    return {"detail": said}


def error_of(status: int, body: Body, operation: str) -> RunnerProvisionerError | None:
    """What the adapter makes of it."""
    raw = body if isinstance(body, str) else json.dumps(body)
    return READER.error(Answer(status=status, body=raw.encode(), headers={"x-request-id": "req-0"}), operation)


CASES: list[tuple[str, str, int, Body, str, type[RunnerProvisionerError]]] = [
    ("in_progress", "code", 409, enveloped("wait", "idempotency_in_progress"), RENT, CreateOutcomeUnknown),
    (
        "in_progress_said", "words", 409, detail("A request with this Idempotency-Key is in progress"), RENT,
        CreateOutcomeUnknown,
    ),
    ("outcome_unknown", "code", 409, enveloped("who knows", "idempotency_outcome_unknown"), RENT, CreateOutcomeUnknown),
    (
        "outcome_unknown_said", "words", 409, detail("The outcome of the first request with this key is unknown"),
        RENT, CreateOutcomeUnknown,
    ),
    ("key_reused", "code", 422, enveloped("no", "idempotency_key_reused"), RENT, KeyReused),
    (
        "key_reused_said", "words", 422, detail("This Idempotency-Key was used for another request"), RENT, KeyReused
    ),
    ("unauthorized", "envelope", 401, enveloped("Invalid API key", "unauthorized"), "getPod", AuthenticationFailed),
    ("unauthorized", "on a rent", 401, detail("Invalid API key"), RENT, AuthenticationFailed),
    ("unauthorized", "empty", 401, "", "getPod", AuthenticationFailed),
    ("budget", "code", 402, enveloped("budget", "API_KEY_BUDGET_EXCEEDED"), RENT, InsufficientFunds),
    ("payment", "card", 402, enveloped("Card declined", "card_declined"), RENT, InsufficientFunds),
    ("balance", "code", 403, enveloped("top up", "insufficient_balance"), RENT, InsufficientFunds),
    ("balance_said", "words", 403, detail("Insufficient balance: 1.00 needed"), RENT, InsufficientFunds),
    (
        "scope", "rent", 403, detail("API key 'ci' does not have the 'rent' scope"), RENT, PermissionDenied
    ),
    ("forbidden", "other", 403, "<html>Forbidden</html>", "getPod", AuthenticationFailed),
    ("no_volume", "rent", 404, enveloped("Volume not found", "volume_not_found"), RENT, InvalidRequest),
    ("node_gone", "rent", 404, enveloped("Executor not found", "executor_not_found"), RENT, OfferGone),
    ("node_gone", "taken", 404, detail("Executor is not available"), RENT, OfferGone),
    ("node_conflict", "rent", 409, enveloped("price changed", "price_changed"), RENT, OfferGone),
    ("node_taken", "not available", 400, detail("Executor is not available"), RENT, OfferGone),
    ("node_taken", "already rented", 400, enveloped("It is already rented", "x"), RENT, OfferGone),
    ("no_route", "an address without a route", 404, detail("Not Found"), "deletePod", ProtocolViolation),
    ("no_route", "with its path", 404, enveloped("Not Found: /pods/x", "not_found"), "getPod", ProtocolViolation),
    ("no_route", "a proxy's page", 404, "<html>404</html>", "deletePod", ProtocolViolation),
    ("no_route", "a proxy's page for a rent", 404, "<html>404</html>", RENT, ProtocolViolation),
    ("status_400", "other", 400, enveloped("Removal time must be in the future"), "scheduleRemoval", InvalidRequest),
    ("status_400", "available, but no rent", 400, detail("not available"), "createTemplate", InvalidRequest),
    ("status_404", "a pod", 404, enveloped("Pod not found", "pod_not_found"), "deletePod", NotFound),
    ("status_404", "a pod, older", 404, detail("Pod not found"), "getPod", NotFound),
    ("status_405", "no such method", 405, enveloped("Method Not Allowed"), "deleteTemplate", ProtocolViolation),
    ("status_409", "no rent", 409, enveloped("Volume is attached to a pod"), "deleteVolume", InvalidRequest),
    ("status_410", "retired", 410, "", "listPods", ApiRetired),
    ("status_422", "a field", 422, detail([{"loc": ["body", "gpu_count"], "msg": "too many"}]), RENT, InvalidRequest),
    ("status_429", "pace", 429, enveloped("Rate limit exceeded", "rate_limited"), RENT, RateLimited),
    ("status_5xx", "internal", 500, enveloped("Internal server error", "internal_error"), RENT, ServerError),
    ("status_5xx", "a proxy's", 502, "<html>bad gateway</html>", "listPods", ServerError),
    ("status_5xx", "whatever it says", 503, enveloped("insufficient balance"), RENT, ServerError),
    ("status_other", "a teapot", 418, "", "listPods", ProtocolViolation),
    ("refused", "a refusal with 200", 200, {"success": False, "message": "no"}, "deletePod", ProviderError),
]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "status", "body", "operation", "kind"),
    [pytest.param(row, *rest, id=f"{row}: {name}") for row, name, *rest in CASES],
)
def test_each_refusal_is_one_class(
    row: str, status: int, body: Body, operation: str, kind: type[RunnerProvisionerError]
) -> None:
    """By the row of the table that it is listed under."""
    raw = body if isinstance(body, str) else json.dumps(body)
    refusal = read(Answer(status=status, body=raw.encode()), operation)
    assert refusal is not None
    assert refusal.row.id == row
    error = error_of(status, body, operation)
    assert type(error) is kind
    assert "\n" not in str(error)
    if isinstance(error, RemoteError):
        assert (error.service, error.operation) == ("celium", operation)
        assert error.code


def test_every_row_is_tried() -> None:
    """No row without a case, and no two rows of one name."""
    names = [row.id for row in TABLE]
    assert len(set(names)) == len(names)
    assert {row for row, *_ in CASES} == {*names, "status_5xx", "status_other", "refused"}


@pytest.mark.parametrize(
    ("status", "body", "operation", "code"),
    [
        pytest.param(409, enveloped("x", "idempotency_in_progress"), RENT, IN_PROGRESS, id="in progress"),
        pytest.param(409, detail("outcome unknown"), RENT, UNKNOWN_OUTCOME, id="outcome unknown"),
        pytest.param(404, detail("Not Found"), "getPod", NO_ROUTE, id="no route"),
        pytest.param(405, "", "deleteTemplate", NO_METHOD, id="no method"),
    ],
)
def test_what_the_adapter_tells_apart_has_a_code(status: int, body: Body, operation: str, code: str) -> None:
    """A key whose outcome nobody will know is used up, one in progress is not."""
    error = error_of(status, body, operation)
    assert isinstance(error, RemoteError)
    assert error.code == code


@pytest.mark.parametrize("body", [{"success": True}, {"id": "x"}, [], None, "text"], ids=repr)
def test_a_good_answer_is_no_error(body: object) -> None:
    """Whatever is in it."""
    assert error_of(200, json.dumps(body), "getPod") is None


def test_what_lium_said_is_quoted_with_its_numbers() -> None:
    """The window and the amounts of a budget, the fields of a validation, the hint."""
    facts = {"message": "API key budget exceeded", "window": "daily", "budget_usd": 5.0, "spent_usd": 4.9}
    body = {"error": {"code": "API_KEY_BUDGET_EXCEEDED", "message": "API key budget exceeded"}, "message": facts}
    said = str(error_of(402, body, RENT))
    assert "window=daily budget_usd=5.0 spent_usd=4.9" in said
    assert said.count("budget exceeded") == 1
    body = {**enveloped("Validation failed"), "validation_errors": [{"field": "gpu_count", "message": "too many"}]}
    assert "gpu_count: too many" in str(error_of(422, body, RENT))
    body = {"error": {"code": "x", "message": "no", "hint": "buy another"}}
    assert "buy another" in str(error_of(400, body, RENT))


def test_the_request_id_is_that_of_the_envelope() -> None:
    """Else that of the header."""
    told, untold = error_of(500, enveloped("x"), RENT), error_of(500, "", RENT)
    assert isinstance(told, RemoteError)
    assert isinstance(untold, RemoteError)
    assert (told.request_id, untold.request_id) == ("req-1", "req-0")


def test_no_secret_and_no_novel_is_quoted() -> None:
    """Redacted, and cut."""
    said = str(error_of(400, enveloped(f"key {PLANTED} {'x' * 5000}"), RENT))
    assert PLANTED not in said
    assert len(said) < 500
    code = error_of(403, enveloped("x", PLANTED), RENT)
    assert isinstance(code, RemoteError)
    assert PLANTED not in str(code.code)


@pytest.mark.parametrize(
    "body",
    ["[]", "null", "{", '{"error": "no"}', '{"error": {"code": 5}}', '{"detail": [1, {"loc": 2}, {"msg": "x"}]}'],
)
def test_an_odd_body_is_still_an_error(body: str) -> None:
    """By its status."""
    assert isinstance(error_of(400, body, "getPod"), InvalidRequest)
