"""Every refusal that RunPod is known to give is one class of our errors, and says what to do."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from runner_provisioner._http import Answer
from runner_provisioner.errors import (
    ApiRetired,
    AuthenticationFailed,
    BidTooLow,
    CapacityUnavailable,
    InsufficientFunds,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    ProtocolViolation,
    ProviderError,
    RateLimited,
    RunnerProvisionerError,
    ServerError,
    SpotDiscontinued,
)
from runner_provisioner.providers.runpod.failures import TABLE, Reader, read
from runner_provisioner.testing.clock import EPOCH, FakeClock

READER = Reader(redact=lambda text: text.replace("s3cr3t", "***"), now=FakeClock().now)
LONGER = "There are no longer any instances available with "


def graphql(message: str, code: str = "RUNPOD", status: int = 200, **notes: object) -> Answer:
    """A GraphQL refusal."""
    body = {"data": None, "errors": [{"message": message, "extensions": {"code": code, **notes}}]}
    return Answer(status=status, body=json.dumps(body).encode())


def plain(status: int, body: str = "", **headers: str) -> Answer:
    """An answer that is no GraphQL."""
    return Answer(status=status, body=body.encode(), headers=headers)


def document(status: int, /, **body: object) -> Answer:
    """A REST refusal."""
    return Answer(status=status, body=json.dumps(body).encode())


ROWS: list[tuple[str, Answer, type[RunnerProvisionerError]]] = [
    # The rows of the reference's table, in its order.
    ("graphql-401", graphql("Unauthorized", "x", 401), AuthenticationFailed),
    ("v1-invalid-key", plain(401, "Invalid API key"), AuthenticationFailed),
    ("v2-no-token", document(401, title="Unauthorized", detail="missing bearer token"), AuthenticationFailed),
    ("no-permission", plain(403), PermissionDenied),
    (
        "no-stock",
        graphql(LONGER + "the requested specifications. Please refresh and try again."),
        CapacityUnavailable,
    ),
    ("no-stock-v1", document(500, error=f"create pod: {LONGER}the requested specifications."), CapacityUnavailable),
    ("no-stock-v2", document(400, detail=LONGER + "the requested specifications."), CapacityUnavailable),
    ("no-stock-spot-1", graphql(LONGER + "the request specifications. Please try again later."), CapacityUnavailable),
    (
        "no-stock-spot-2",
        graphql("There are no instances available with the request specifications. Please try again later."),
        CapacityUnavailable,
    ),
    ("no-stock-spot-3", graphql("There are no instances currently available."), CapacityUnavailable),
    ("disk-too-small", graphql(LONGER + "enough disk space."), CapacityUnavailable),
    (
        "host-too-small",
        graphql("This machine does not have the resources to deploy your pod. Please try a different machine"),
        CapacityUnavailable,
    ),
    ("over-constrained", graphql("could not find any pods with required specifications"), CapacityUnavailable),
    (
        "host-full",
        graphql("There are not enough free GPUs on the host machine to start this pod."),
        CapacityUnavailable,
    ),
    (
        "host-full-v1",
        document(500, error="start pod: There are not enough free GPUs on the host machine to start this pod."),
        CapacityUnavailable,
    ),
    ("spot-gone", graphql("Spot pods are no longer offered"), SpotDiscontinued),
    ("spot-gone-v1", document(500, error="create pod: Spot pods are no longer offered"), SpotDiscontinued),
    (
        "spot-field-gone",
        graphql('Cannot query field "podRentInterruptable" on type "Mutation".', "GRAPHQL_VALIDATION_FAILED", 400),
        SpotDiscontinued,
    ),
    (
        "spot-resume-field-gone",
        graphql("Cannot query field 'podBidResume' on type 'Mutation'.", status=400),
        SpotDiscontinued,
    ),
    ("spot-type-gone", graphql('Unknown type "PodRentInterruptableInput".', status=400), SpotDiscontinued),
    ("another-mutation-gone", graphql("Unknown mutation podStop", status=400), InvalidRequest),
    ("spot-mutation-gone", graphql("Unknown mutation podRentInterruptable", status=400), SpotDiscontinued),
    ("wrong-resume", graphql("Cannot resume a spot pod as an on demand pod."), InvalidRequest),
    ("wrong-bid", graphql("Cannot resume an on demand pod as a spot pod."), InvalidRequest),
    ("permission-text", graphql("This API key does not have permission to do this"), PermissionDenied),
    ("funds-v2", plain(402), InsufficientFunds),
    ("funds-balance", graphql("Your account balance is too low"), InsufficientFunds),
    ("funds-word", graphql("Not enough funds to rent this pod"), InsufficientFunds),
    ("funds-limit", graphql("This would exceed your spend limit"), InsufficientFunds),
    ("unknown-pod", graphql("pod not found to terminate"), NotFound),
    ("unknown-pod-v1", document(404, error="pod not found to terminate", status=404), NotFound),
    ("unknown-pod-v2", document(404, title="Not Found", detail="pod not found", status=404), NotFound),
    (
        "unknown-key",
        graphql('Field "foo" is not defined by type "PodRentInterruptableInput".', "x", 400),
        InvalidRequest,
    ),
    ("missing-variable", document(400, errors=[{"message": 'Variable "$input" is required'}]), InvalidRequest),
    ("v2-validation", document(422, title="Unprocessable", errors=[{"message": "name is required"}]), InvalidRequest),
    (
        "v2-validation-of-a-word",
        document(422, title="Unprocessable", errors=["$.env.balance: expected string"]),
        InvalidRequest,
    ),
    ("v2-not-placed", document(400, detail="the pod could not be placed"), CapacityUnavailable),
    ("v2-rule", document(400, title="Bad Request", detail="disk must be at least 1"), InvalidRequest),
    ("v2-wrong-state", document(409, detail="pod is not stopped"), InvalidRequest),
    ("retired", plain(410, "Gone"), ApiRetired),
    ("too-many", plain(429, ""), RateLimited),
    (
        "internal",
        graphql("Something went wrong. Please try again later or contact support.", "INTERNAL_SERVER_ERROR"),
        ServerError,
    ),
    ("5xx-html", plain(502, "<html>Bad Gateway: load balancer out of funds</html>"), ServerError),
    # The codes of the integration specification.
    ("UNAUTHENTICATED", graphql("Invalid authorization token", "UNAUTHENTICATED"), AuthenticationFailed),
    ("UNAUTHENTICATED-expired", graphql("Token has expired", "UNAUTHENTICATED"), AuthenticationFailed),
    ("UNAUTHENTICATED-alone", graphql("no", "UNAUTHENTICATED"), AuthenticationFailed),
    ("FORBIDDEN", graphql("no", "FORBIDDEN"), PermissionDenied),
    ("INSUFFICIENT_CREDITS", graphql("Insufficient credit balance", "INSUFFICIENT_CREDITS"), InsufficientFunds),
    ("INSUFFICIENT_CREDITS-alone", graphql("no", "INSUFFICIENT_CREDITS"), InsufficientFunds),
    (
        "RESOURCE_UNAVAILABLE",
        graphql("No GPUs available for specified configuration", "RESOURCE_UNAVAILABLE"),
        CapacityUnavailable,
    ),
    ("RESOURCE_UNAVAILABLE-alone", graphql("no", "RESOURCE_UNAVAILABLE"), CapacityUnavailable),
    ("BID_TOO_LOW", graphql("Bid price below minimum required", "BID_TOO_LOW", minimumBid=0.25), BidTooLow),
    ("BID_TOO_LOW-alone", graphql("no", "BID_TOO_LOW"), BidTooLow),
    ("NOT_FOUND", graphql("Pod not found", "NOT_FOUND"), NotFound),
    ("NOT_FOUND-alone", graphql("no", "NOT_FOUND"), NotFound),
    ("BAD_USER_INPUT", graphql("Invalid input parameters", "BAD_USER_INPUT", field="gpuCount"), InvalidRequest),
    ("RATE_LIMITED", graphql("Rate limit exceeded", "RATE_LIMITED"), RateLimited),
    ("RATE_LIMITED-alone", graphql("no", "RATE_LIMITED"), RateLimited),
    ("INTERNAL_SERVER_ERROR", graphql("no", "INTERNAL_SERVER_ERROR"), ServerError),
    ("unknown-template", graphql("template not found"), InvalidRequest),
    # What else arrives.
    ("message-in-the-code", graphql("error", "Pod not found"), NotFound),
    ("upper-case", graphql("SPOT PODS ARE NO LONGER OFFERED"), SpotDiscontinued),
    ("bare-404", plain(404, "<html>not here</html>"), ProtocolViolation),
    ("gateway-404", document(404, message="Not Found"), ProtocolViolation),
    ("wrong-method", plain(405), ProtocolViolation),
    ("redirect", plain(302), ProtocolViolation),
    ("teapot", plain(418), ProtocolViolation),
    ("unknown-refusal", graphql("A sentence never seen before"), ProviderError),
    ("errors-no-list", document(200, errors={"message": "Spot pods are no longer offered"}), SpotDiscontinued),
    ("errors-of-text", document(200, errors=["Spot pods are no longer offered"]), SpotDiscontinued),
    ("errors-nonsense", document(200, errors=[7]), ProviderError),
    ("list-503", plain(503, "[]"), ServerError),
    ("text-520", plain(520, "odd"), ServerError),
]


@pytest.mark.parametrize(("answer", "error"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_each_refusal_is_its_class_with_one_line_of_advice(answer: Answer, error: type[RunnerProvisionerError]) -> None:
    """The class is exact, and the message is one line that names RunPod and what to do."""
    found = READER.error(answer, "op")
    assert type(found) is error
    assert "\n" not in str(found)
    assert "RunPod" in str(found)
    assert ":" in str(found)


def test_every_row_of_the_table_is_tried() -> None:
    """No row is dead: each decides at least one of the answers above."""
    decided = {refusal.row.id for refusal in map(read, (row[1] for row in ROWS)) if refusal}
    assert {row.id for row in TABLE} <= decided | {"spot_mutation", "graphql_validation_failed"}


@pytest.mark.parametrize("body", ['{"data": {}}', '{"data": {}, "errors": []}', "null", "nonsense"])
def test_an_answer_without_complaint_is_no_error(body: str) -> None:
    """A good status without errors is for the caller to read."""
    assert READER.error(plain(200, body), "op") is None


def test_a_field_that_does_not_fit_is_named() -> None:
    """Whether it comes in the sentence or beside it."""
    spoken = document(422, title="Unprocessable", errors=["$.gpu: additional properties 'bogus' not allowed"])
    apart = document(422, errors=[{"field": "gpu.count", "message": "must be at least 1"}])
    assert "additional properties 'bogus' not allowed" in str(READER.error(spoken, "op"))
    assert "gpu.count: must be at least 1" in str(READER.error(apart, "op"))


def test_reset_at_is_the_delay_told() -> None:
    """The specification's resetAt counts from now."""
    until = (EPOCH + timedelta(seconds=42)).isoformat().replace("+00:00", "Z")
    found = READER.error(graphql("Rate limit exceeded", "RATE_LIMITED", resetAt=until), "op")
    assert isinstance(found, RateLimited)
    assert found.retry_after == pytest.approx(42)


def test_a_reset_in_the_past_is_no_delay() -> None:
    """A clock that differs must not make a negative wait."""
    found = READER.error(graphql("Rate limit exceeded", "RATE_LIMITED", resetAt="2020-01-01T00:00:00Z"), "op")
    assert isinstance(found, RateLimited)
    assert found.retry_after == 0


@pytest.mark.parametrize("notes", [{}, {"resetAt": "soon"}, {"resetAt": 7}], ids=["none", "text", "number"])
def test_no_readable_reset_is_no_told_delay(notes: dict[str, Any]) -> None:
    """Nonsense is treated as absence."""
    found = READER.error(graphql("Rate limit exceeded", "RATE_LIMITED", **notes), "op")
    assert isinstance(found, RateLimited)
    assert found.retry_after is None


def test_what_runpod_said_is_redacted_cut_and_on_one_line() -> None:
    """Remote text never carries a secret nor floods a message."""
    found = str(READER.error(graphql("s3cr3t\nwords " + "x" * 1000), "op"))
    assert "s3cr3t" not in found
    assert "*** words" in found
    assert len(found) < 400


def test_the_place_of_a_failure_is_kept() -> None:
    """Service, operation, request id and code are there for a report."""
    answer = Answer(status=503, body=b"", headers={"x-request-id": "r1"})
    found = READER.error(answer, "myPods")
    assert isinstance(found, ServerError)
    assert (found.service, found.operation, found.request_id, found.code) == (
        "runpod",
        "myPods",
        "r1",
        "INTERNAL_SERVER_ERROR",
    )


def test_the_code_is_the_specifications_where_runpod_says_nothing() -> None:
    """RUNPOD would tell a log's reader nothing; what is not understood keeps its own."""
    full = READER.error(graphql("There are no instances currently available."), "op")
    assert isinstance(full, CapacityUnavailable)
    assert full.code == "RESOURCE_UNAVAILABLE"
    strange = READER.error(graphql("never seen", "ODD"), "op")
    assert isinstance(strange, ProviderError)
    assert strange.code == "ODD"
