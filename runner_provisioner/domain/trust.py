"""Whether the event behind a workflow run lets strangers choose what the run does."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

REMEDY: Final = "give this job an environment with reviewers, then allow it with allow-untrusted"

_REPOSITORY = re.compile(r"[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}")
_EVENT = re.compile(r"[a-z_]{1,50}")
# With a credential in the same run a stranger's code is one `run:` away from it, whatever it does today.
_ALWAYS: Final = "runs with this repository's secrets on whatever a pull request brings"


def distrust(event: str, payload: object, repository: str) -> str | None:
    """Why the event is not to be trusted, in one line with its remedy; None when it is.

    `event` is the name (GITHUB_EVENT_NAME), `payload` what GitHub wrote for it, parsed, None when that could not be
    read; `repository` is owner/name of the one that runs. Of an event that can come from elsewhere, a payload that does
    not say where it comes from is not trusted. Events that run this repository's own code are trusted; one that is not
    known, or not spelt as GitHub spells it, is not. Source: GitHub docs, events that trigger workflows.
    """
    if event in _OWN_CODE:
        return None
    judge = _JUDGES.get(event)
    if judge is None:
        name = event if _EVENT.fullmatch(event) else "this event"
        return f"{name} is none that is known to be caused by your own people (GITHUB_EVENT_NAME): {REMEDY}"
    reason = judge(payload, repository)
    return f"{event} {reason}: {REMEDY}" if reason else None


def _pull_request(payload: object, repository: str) -> str | None:
    return _foreign(_at(payload, "pull_request", "head", "repo", "full_name"), repository)


def _workflow_run(payload: object, repository: str) -> str | None:
    return _foreign(_at(payload, "workflow_run", "head_repository", "full_name"), repository)


def _issue_comment(payload: object, _repository: str) -> str | None:
    issue = _at(payload, "issue")
    if not isinstance(issue, Mapping):
        return "does not say what was commented on"
    return "is on a pull request, and anybody may comment there" if issue.get("pull_request") is not None else None


def _pull_request_target(_payload: object, _repository: str) -> str | None:
    return _ALWAYS


def _foreign(head: object, repository: str) -> str | None:
    if not isinstance(head, str) or not _REPOSITORY.fullmatch(head):
        return "does not say which repository its code comes from (a deleted fork?)"
    # GitHub compares names without regard to case.
    return None if head.lower() == repository.lower() else f"brings code of another repository, {head}"


def _at(payload: object, *path: str) -> object:
    for name in path:
        if not isinstance(payload, Mapping):
            return None
        payload = payload.get(name)
    return payload


# They run what is on a branch of the repository, whoever caused them.
_OWN_CODE: Final = frozenset(
    {
        "branch_protection_rule",
        "check_run",
        "check_suite",
        "create",
        "delete",
        "deployment",
        "deployment_status",
        "discussion",
        "discussion_comment",
        "fork",
        "gollum",
        "issues",
        "label",
        "merge_group",
        "milestone",
        "page_build",
        "public",
        "push",
        "registry_package",
        "release",
        "repository_dispatch",
        "schedule",
        "status",
        "watch",
        "workflow_call",
        "workflow_dispatch",
    }
)
_JUDGES: Final[Mapping[str, Callable[[object, str], str | None]]] = {
    "pull_request": _pull_request,
    "pull_request_review": _pull_request,
    "pull_request_review_comment": _pull_request,
    "pull_request_target": _pull_request_target,
    "workflow_run": _workflow_run,
    "issue_comment": _issue_comment,
}
