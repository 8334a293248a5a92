"""What each refusal of GitHub becomes."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner_provisioner.errors import (
    ApiRetired,
    AuthenticationFailed,
    GitHubError,
    JobStillRunning,
    PermissionDenied,
    ProtocolViolation,
    RateLimited,
    RemoteError,
    RunnerBusy,
    RunnerNameTaken,
    ServerError,
)
from runner_provisioner.github.errors import LONGEST_WAIT, ClockSkewed, Reply, Speaker, error_of, told_wait
from runner_provisioner.github.fields import Fields

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
SPEAKER = Speaker(label="the token in GITHUB_TOKEN", remedy="make a new one", permission_remedy="grant it")


def judged(
    status: int, message: str = "", headers: dict[str, str] | None = None, operation: str = "listRunners"
) -> RemoteError | None:
    """The reading of one answer."""
    reply = Reply(operation=operation, status=status, headers=headers or {}, message=message, request_id="ABC:1")
    return error_of(reply, speaker=SPEAKER, now=NOW)


TABLE = [
    pytest.param(
        401, "Bad credentials", {}, "x", AuthenticationFailed, ["the token in GITHUB_TOKEN", "make a new one"], id="401"
    ),
    pytest.param(
        401,
        "'Expiration time' claim ('exp') is too far in the future",
        {"date": "Sun, 01 Nov 2026 11:00:00 GMT"},
        "x",
        ClockSkewed,
        ["clock is wrong"],
        id="401-clock",
    ),
    pytest.param(
        403,
        "Resource not accessible by integration",
        {"x-accepted-github-permissions": "administration=write,metadata=read; organization_self_hosted_runners=write"},
        "x",
        PermissionDenied,
        ["administration: write and metadata: read or organization_self_hosted_runners: write", "grant it"],
        id="403-permission-named",
    ),
    pytest.param(
        403,
        "Resource not accessible by personal access token",
        {"x-ratelimit-remaining": "0"},
        "x",
        PermissionDenied,
        ["not accessible"],
        id="403-permission-on-the-last-request-of-the-hour",
    ),
    pytest.param(
        403,
        "Must have admin rights to Repository.",
        {"x-accepted-oauth-scopes": "repo, admin:org"},
        "x",
        PermissionDenied,
        ["one of the scopes repo, admin:org"],
        id="403-scopes-named",
    ),
    pytest.param(403, "Forbidden", {}, "x", PermissionDenied, ["may not do this (Forbidden)"], id="403-plain"),
    pytest.param(
        403,
        "Resource protected by organization SAML enforcement.",
        {"x-github-sso": "required; url=https://github.com/orgs/o/sso?x=1"},
        "x",
        PermissionDenied,
        ["single sign-on", "https://github.com/orgs/o/sso?x=1"],
        id="403-sso",
    ),
    pytest.param(403, "Protected", {"x-github-sso": "required"}, "x", PermissionDenied, ["sign-on"], id="403-sso-bare"),
    pytest.param(
        403, "This installation has been suspended", {}, "x", PermissionDenied, ["unsuspend"], id="403-suspended"
    ),
    pytest.param(
        403, "This workflow is already running", {}, "rerunFailedJobs", JobStillRunning, ["not ended"], id="403-runs"
    ),
    pytest.param(
        403,
        "API rate limit exceeded for user ID 123.",
        {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW.timestamp()) + 29)},
        "x",
        RateLimited,
        ["wait 30 s"],
        id="403-primary-limit",
    ),
    pytest.param(
        403,
        "You have exceeded a secondary rate limit",
        {"retry-after": "7"},
        "x",
        RateLimited,
        ["wait 7 s"],
        id="403-told",
    ),
    pytest.param(
        403,
        "You have triggered an abuse detection mechanism",
        {},
        "x",
        RateLimited,
        ["wait 60 s"],
        id="403-untold-minute",
    ),
    pytest.param(429, "slow down", {}, "x", RateLimited, ["wait 60 s"], id="429-untold-minute"),
    pytest.param(
        404,
        "Not Found",
        {"x-accepted-github-permissions": "administration=write"},
        "createRegistrationToken",
        PermissionDenied,
        ["no such repository", "cannot see or administer", "administration: write", "--repository", "grant it"],
        id="404",
    ),
    pytest.param(
        409,
        "Already exists - A runner with the name *** already exists.",
        {},
        "x",
        RunnerNameTaken,
        ["remove it first"],
        id="409-name",
    ),
    pytest.param(
        409, "Cannot cancel a workflow run that is completed.", {}, "cancelRun", GitHubError, ["cannot"], id="409"
    ),
    pytest.param(410, "Gone", {}, "x", ApiRetired, ["update this program"], id="410"),
    pytest.param(
        422, "Runner is currently running a job", {}, "removeRunner", RunnerBusy, ["still runs a job"], id="422-busy"
    ),
    pytest.param(422, "Validation Failed", {}, "x", GitHubError, ["Validation Failed"], id="422"),
    pytest.param(307, "Moved", {}, "x", GitHubError, ["present name"], id="307-renamed"),
    pytest.param(418, "teapot", {}, "x", GitHubError, ["418"], id="418"),
    pytest.param(502, "Server Error", {}, "x", ServerError, ["502", "try again"], id="502"),
]


@pytest.mark.parametrize(("status", "message", "headers", "operation", "kind", "says"), TABLE)
def test_a_refusal_becomes_its_error(
    status: int, message: str, headers: dict[str, str], operation: str, kind: type[RemoteError], says: list[str]
) -> None:
    """Each row of the table ends as its class, names what to do, and keeps where it happened."""
    error = judged(status, message, headers, operation)

    assert type(error) is kind
    assert (error.service, error.operation, error.request_id) == ("github", operation, "ABC:1")
    assert "\n" not in str(error)
    for words in says:
        assert words in str(error)


@pytest.mark.parametrize(("is_app", "told"), [(False, True), (True, False)], ids=["token", "app"])
def test_a_used_up_limit_advises_an_app_to_those_who_have_none(is_app: bool, told: bool) -> None:  # noqa: FBT001 - a table
    """An App is no way out for an App."""
    reply = Reply(operation="x", status=429, headers={}, message="slow down", request_id="ABC:1")
    error = error_of(reply, speaker=dataclasses.replace(SPEAKER, is_app=is_app), now=NOW)
    assert ("use a GitHub App" in str(error)) is told


@pytest.mark.parametrize("status", [200, 201, 202, 204], ids=str)
def test_success_is_no_error(status: int) -> None:
    """Every status of success passes."""
    assert judged(status) is None


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        pytest.param("Sun, 01 Nov 2026 11:00:00 GMT", datetime(2026, 11, 1, 11, tzinfo=UTC), id="a-date"),
        pytest.param("yesterday", None, id="nonsense"),
        pytest.param("", None, id="empty"),
        pytest.param(None, None, id="missing"),
    ],
)
def test_a_clock_refusal_says_what_time_it_is_at_github(date: str | None, expected: datetime | None) -> None:
    """The Date of the answer is kept, when it is one."""
    error = judged(401, "'Issued at' claim ('iat') must be an Integer", {} if date is None else {"date": date})

    assert isinstance(error, ClockSkewed)
    assert error.server_time == expected


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param({"retry-after": "12", "x-ratelimit-remaining": "0"}, 12.0, id="retry-after-first"),
        pytest.param({"retry-after": "0"}, 1.0, id="at-least-a-second"),
        pytest.param({"retry-after": "999999999"}, LONGEST_WAIT, id="at-most-an-hour"),
        pytest.param({"retry-after": "soon"}, 60.0, id="unreadable"),
        pytest.param({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1.5"}, 1.0, id="reset-in-the-past"),
        pytest.param({"x-ratelimit-remaining": "0"}, 60.0, id="no-reset"),
        pytest.param({"x-ratelimit-remaining": "17", "x-ratelimit-reset": "9999999999"}, 60.0, id="budget-left"),
    ],
)
def test_the_wait_is_what_the_headers_say(headers: dict[str, str], seconds: float) -> None:
    """`retry-after` wins, then the reset of an empty budget, then a minute."""
    assert told_wait(headers, NOW) == seconds


@given(st.dictionaries(st.sampled_from(["retry-after", "x-ratelimit-remaining", "x-ratelimit-reset"]), st.text()))
def test_the_wait_is_always_bounded(headers: dict[str, str]) -> None:
    """Whatever the headers hold, the wait is between a second and an hour."""
    assert 1.0 <= told_wait(headers, NOW) <= LONGEST_WAIT


GOOD = {
    "name": "n",
    "id": 7,
    "busy": True,
    "at": "2026-11-01T13:00:00+01:00",
    "bare": "2026-11-01T12:00:00",
    "labels": [{"name": "x"}],
    "permissions": {"actions": "read"},
    "empty": "",
}


def test_fields_are_read_by_type() -> None:
    """Each reader gives its type; times come out in UTC."""
    fields = Fields(GOOD, operation="x")

    assert fields.text("name") == "n"
    assert fields.number("id") == 7
    assert fields.flag("busy") is True
    assert fields.time("at") == fields.time("bare") == datetime(2026, 11, 1, 12, tzinfo=UTC)
    assert [label.text("name") for label in fields.objects("labels")] == ["x"]
    assert fields.words("permissions") == {"actions": "read"}
    assert fields.words("name") == {}
    assert (fields.text_or_none("name"), fields.text_or_none("empty"), fields.text_or_none("none")) == ("n", None, None)


@pytest.mark.parametrize(
    ("reader", "key"),
    [
        pytest.param("text", "id", id="text"),
        pytest.param("text", "missing", id="missing"),
        pytest.param("number", "name", id="number"),
        pytest.param("number", "busy", id="a-boolean-is-no-number"),
        pytest.param("flag", "id", id="flag"),
        pytest.param("time", "name", id="time"),
        pytest.param("objects", "name", id="list"),
    ],
)
def test_a_field_of_another_type_is_a_protocol_violation(reader: str, key: str) -> None:
    """The message names the operation and the field."""
    fields = Fields(GOOD, operation="listRunners", request_id="ABC:1")

    with pytest.raises(ProtocolViolation, match=rf"listRunners .*look at {key}") as caught:
        getattr(fields, reader)(key)
    assert caught.value.request_id == "ABC:1"


@pytest.mark.parametrize("value", [None, [], "x", 1], ids=repr)
def test_an_answer_that_is_no_object_is_a_protocol_violation(value: object) -> None:
    """A list, a string, a number or null is not what was expected."""
    with pytest.raises(ProtocolViolation):
        Fields(value, operation="x")


def test_elements_of_a_list_must_be_objects() -> None:
    """Also inside a list."""
    with pytest.raises(ProtocolViolation):
        Fields({"runners": ["x"]}, operation="x").objects("runners")
