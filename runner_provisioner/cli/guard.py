"""The guard of `start`: no machine is rented for an event that strangers can shape, unless that was allowed."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from runner_provisioner.domain.trust import distrust
from runner_provisioner.errors import UntrustedEvent

_NO = frozenset({"", "0", "false", "no"})  # as settings read it
F = TypeVar("F", bound=Callable[..., Any])


def guarded(command: F) -> F:
    """--allow-untrusted, and the guard before the command reads its settings; with --own nothing is rented."""

    @click.option(
        "--allow-untrusted",
        is_flag=True,
        help="Rent even for an event that strangers can shape, such as a pull request from a fork.",
    )
    @functools.wraps(command)
    def with_guard(*args: Any, allow_untrusted: bool, **values: Any) -> Any:  # noqa: ANN401 - whatever the command takes and gives
        check_event(os.environ, allowed=allow_untrusted or values.get("own", False))
        return command(*args, **values)

    return with_guard  # type: ignore[return-value] # click replaces the signature


def check_event(environ: Mapping[str, str], *, allowed: bool) -> None:
    """Raise UntrustedEvent when this workflow run belongs to an event that is not to be trusted.

    To be called before any credential is read. Outside Actions there is no event. A seat belt: whoever can change the
    workflow can also take it off; the boundary is an environment with reviewers.
    """
    if allowed or environ.get("GITHUB_ACTIONS", "").strip().lower() in _NO:
        return
    event = environ.get("GITHUB_EVENT_NAME", "")
    reason = distrust(event, _payload(environ.get("GITHUB_EVENT_PATH", "")), environ.get("GITHUB_REPOSITORY", ""))
    if reason is not None:
        raise UntrustedEvent(f"refused: {reason}")


def _payload(path: str) -> object:
    """What GitHub wrote about the event; None for what cannot be read, which is then not trusted."""
    try:
        return json.loads(Path(path).read_text("utf-8")) if path else None
    except (OSError, ValueError, RecursionError):
        return None
