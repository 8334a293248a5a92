"""The guard: which events are trusted, told from payloads as GitHub writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner_provisioner.cli.guard import check_event
from runner_provisioner.domain.trust import REMEDY, distrust
from runner_provisioner.errors import ConfigurationError, UntrustedEvent
from runner_provisioner.settings import Settings

HERE = "acme/site"
GUARDED = (
    "pull_request",
    "pull_request_target",
    "pull_request_review",
    "pull_request_review_comment",
    "workflow_run",
    "issue_comment",
)


def repository(name: str) -> dict[str, Any]:
    """A repository, as it is in every payload."""
    owner, _, short = name.partition("/")
    return {"id": 35129377, "name": short, "full_name": name, "owner": {"login": owner}, "fork": name != HERE}


def pull_request(head: str | None) -> dict[str, Any]:
    """The payload of a pull request; `head` None: its fork has been deleted."""
    return {
        "action": "opened",
        "number": 2,
        "pull_request": {
            "number": 2,
            "head": {"label": "x:changes", "ref": "changes", "repo": repository(head) if head else None},
            "base": {"ref": "main", "repo": repository(HERE)},
        },
        "repository": repository(HERE),
    }


def workflow_run(head: str | None) -> dict[str, Any]:
    """The payload of a finished run of another workflow."""
    return {
        "action": "completed",
        "workflow_run": {
            "event": "pull_request",
            "head_branch": "main",
            "head_repository": repository(head) if head else None,
            "repository": repository(HERE),
        },
        "repository": repository(HERE),
    }


def comment(*, on_pull_request: bool) -> dict[str, Any]:
    """The payload of a comment."""
    issue: dict[str, Any] = {"number": 1, "title": "Spelling error in the README file"}
    if on_pull_request:
        issue["pull_request"] = {"url": "https://api.github.com/repos/acme/site/pulls/1"}
    return {
        "action": "created",
        "issue": issue,
        "comment": {"body": "/train", "author_association": "NONE"},
        "repository": repository(HERE),
    }


TRUSTED = {
    "pull-request-of-this-repository": ("pull_request", pull_request(HERE)),
    "pull-request-in-other-case": ("pull_request", pull_request("Acme/Site")),
    "review-of-own-pull-request": ("pull_request_review", pull_request(HERE)),
    "review-comment-on-own-pull-request": ("pull_request_review_comment", pull_request(HERE)),
    "run-of-this-repository": ("workflow_run", workflow_run(HERE)),
    "comment-on-an-issue": ("issue_comment", comment(on_pull_request=False)),
    "push": ("push", {"ref": "refs/heads/main"}),
    "dispatch": ("workflow_dispatch", {"inputs": None}),
    "schedule": ("schedule", {"schedule": "17 * * * *"}),
    "repository-dispatch": ("repository_dispatch", {"action": "train"}),
    "merge-queue": ("merge_group", {"action": "checks_requested"}),
    "release-without-payload": ("release", None),
    "issue": ("issues", {"action": "opened"}),
}
UNTRUSTED = {
    "fork": ("pull_request", pull_request("mallory/site"), "another repository, mallory/site"),
    "deleted-fork": ("pull_request", pull_request(None), "deleted fork"),
    "target-from-a-fork": ("pull_request_target", pull_request("mallory/site"), "this repository's secrets"),
    "target-from-here": ("pull_request_target", pull_request(HERE), "this repository's secrets"),
    "review-of-a-fork": ("pull_request_review", pull_request("mallory/site"), "another repository"),
    "review-comment-on-a-fork": ("pull_request_review_comment", pull_request("mallory/site"), "another repository"),
    "foreign-run": ("workflow_run", workflow_run("mallory/site"), "another repository"),
    "run-of-a-deleted-fork": ("workflow_run", workflow_run(None), "deleted fork"),
    "comment-on-a-pull-request": ("issue_comment", comment(on_pull_request=True), "anybody may comment"),
    "no-event": ("", None, "GITHUB_EVENT_NAME"),
    "odd-case": ("Push", {"ref": "refs/heads/main"}, "GITHUB_EVENT_NAME"),
    "odd-case-of-a-guarded-one": ("Pull_Request", pull_request(HERE), "GITHUB_EVENT_NAME"),
    "blanks": (" push", None, "GITHUB_EVENT_NAME"),
    "unknown": ("pull_request_comment", {}, "pull_request_comment is none"),
    "two-lines": ("push\n::error::x", None, "this event is none"),
    "strange-name": ("pull_request", pull_request("mallory/site\n::error::x"), "does not say"),
    "number-as-name": ("workflow_run", {"workflow_run": {"head_repository": {"full_name": 7}}}, "does not say"),
}


@pytest.mark.parametrize(("event", "payload"), TRUSTED.values(), ids=TRUSTED)
def test_events_of_ones_own_are_trusted(event: str, payload: object) -> None:
    """What only people with write access can cause is let through."""
    assert distrust(event, payload, HERE) is None


@pytest.mark.parametrize(("event", "payload", "reason"), UNTRUSTED.values(), ids=UNTRUSTED)
def test_events_that_strangers_shape_are_not_trusted(event: str, payload: object, reason: str) -> None:
    """The line names the event, the reason and the remedy."""
    said = distrust(event, payload, HERE)
    assert said is not None
    assert said.startswith((f"{event} ", "this event "))
    assert reason in said
    assert said.endswith(REMEDY)
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("payload", [None, [], "text", {}, {"pull_request": None}, {"issue": "1"}], ids=repr)
@pytest.mark.parametrize("event", GUARDED)
def test_a_payload_that_says_nothing_is_not_trusted(event: str, payload: object) -> None:
    """Where the origin cannot be read, it counts as foreign."""
    assert distrust(event, payload, HERE) is not None


def test_without_a_repository_of_ones_own_nothing_can_be_compared() -> None:
    """An empty GITHUB_REPOSITORY makes no head repository one's own."""
    assert distrust("pull_request", pull_request(HERE), "") is not None


@given(
    st.sampled_from(GUARDED),
    st.recursive(
        st.none() | st.booleans() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["pull_request", "head", "repo", "full_name", "issue", "workflow_run"]),
                inner,
                max_size=3,
            )
        ),
    ),
)
def test_no_payload_makes_it_fail(event: str, payload: object) -> None:
    """Whatever the payload is, there is an answer of one line."""
    said = distrust(event, payload, HERE)
    assert said is None or len(said.splitlines()) == 1


def environment(folder: Path, event: str, content: str | None) -> dict[str, str]:
    """The variables that a step of a run of `event` has."""
    path = folder / "event.json"
    if content is not None:
        path.write_text(content, "utf-8")
    return {
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": event,
        "GITHUB_EVENT_PATH": str(path),
        "GITHUB_REPOSITORY": HERE,
    }


@pytest.mark.parametrize(
    ("value", "guarded"),
    [
        pytest.param("true", True, id="true"),
        pytest.param(" True ", True, id="another-case"),
        pytest.param("1", True, id="one"),
        pytest.param("false", False, id="false"),
        pytest.param("", False, id="empty"),
    ],
)
def test_the_guard_knows_actions_as_the_settings_do(tmp_path: Path, *, value: str, guarded: bool) -> None:
    """What counts as a workflow elsewhere counts as one here; without an event it is not trusted."""
    environ = {**environment(tmp_path, "", None), "GITHUB_ACTIONS": value}
    del environ["GITHUB_EVENT_NAME"]
    seen = Settings.read(environ, home=tmp_path, cwd=tmp_path).in_actions
    assert seen is guarded
    if not guarded:
        check_event(environ, allowed=False)
        return
    with pytest.raises(UntrustedEvent, match="GITHUB_EVENT_NAME"):
        check_event(environ, allowed=False)


def test_a_fork_is_refused_before_renting(tmp_path: Path) -> None:
    """The error is the caller's to fix, has a code of its own and says what to do."""
    environ = environment(tmp_path, "pull_request", json.dumps(pull_request("mallory/site")))
    with pytest.raises(
        UntrustedEvent, match=r"refused: pull_request .*mallory/site.*environment with reviewers"
    ) as seen:
        check_event(environ, allowed=False)
    assert isinstance(seen.value, ConfigurationError)
    assert seen.value.exit_code not in {error.exit_code for error in ConfigurationError.__subclasses__()} - {
        UntrustedEvent.exit_code
    }


@pytest.mark.parametrize(
    "content", [None, "{ not json", "[" * 200_000, '"\\ud800'], ids=["missing", "cut", "deep", "lone-surrogate"]
)
def test_a_payload_that_cannot_be_read_is_refused(tmp_path: Path, content: str | None) -> None:
    """A missing or malformed file does not open the door."""
    with pytest.raises(UntrustedEvent):
        check_event(environment(tmp_path, "pull_request", content), allowed=False)


def test_a_payload_without_a_path_is_refused() -> None:
    """Neither does a variable that is not there."""
    environ = {"GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": "workflow_run", "GITHUB_REPOSITORY": HERE}
    with pytest.raises(UntrustedEvent):
        check_event(environ, allowed=False)


def test_ones_own_pull_request_passes(tmp_path: Path) -> None:
    """A branch of the same repository needs no permission."""
    check_event(environment(tmp_path, "pull_request", json.dumps(pull_request(HERE))), allowed=False)


def test_what_is_allowed_passes(tmp_path: Path) -> None:
    """Whoever says allow-untrusted has decided."""
    check_event(environment(tmp_path, "pull_request_target", None), allowed=True)


@pytest.mark.parametrize("value", [None, "", "false"])
def test_outside_actions_there_is_no_event(tmp_path: Path, value: str | None) -> None:
    """A terminal may have the variables of some other run."""
    environ = environment(tmp_path, "pull_request_target", None)
    environ.pop("GITHUB_ACTIONS")
    check_event(environ | ({"GITHUB_ACTIONS": value} if value is not None else {}), allowed=False)


def test_a_push_passes_without_a_payload(tmp_path: Path) -> None:
    """Events that are always trusted need none."""
    check_event(environment(tmp_path, "push", None), allowed=False)
