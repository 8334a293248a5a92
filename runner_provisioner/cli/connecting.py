"""Connecting to a pod on behalf of a command: with whose keys."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runner_provisioner.cli.session import Session

if TYPE_CHECKING:
    from runner_provisioner.domain.pods import Pod
    from runner_provisioner.ports import Clock
    from runner_provisioner.ssh.connection import Connection
    from runner_provisioner.ssh.keys import Identity

F = TypeVar("F", bound=Callable[..., Any])


def login_options(command: F) -> F:
    """--identity and --trust-first."""
    command = click.option("--trust-first", is_flag=True, help="Accept the host key of a pod that says none.")(command)
    return click.option("--identity", "-i", metavar="FILE", help="Private key to log in with.")(command)


def identity_of(file: str | None) -> Identity:
    """Where this user's keys are."""
    from runner_provisioner.ssh.keys import Identity  # noqa: PLC0415 - asyncssh is slow to import

    return Identity(
        file=Path(file).expanduser() if file else None,
        agent=os.environ.get("SSH_AUTH_SOCK"),
        folder=Path.home() / ".ssh",
    )


def trusted(pod: Pod) -> str:
    """What to add for a pod whose host key nobody knew before the first connection."""
    return " (its host key is the one that start saw first)" if pod.pinned else ""


@asynccontextmanager
async def connected_to(
    session: Session, clock: Clock, pod: Pod, identity: str | None, *, trust_first: bool
) -> AsyncIterator[Connection]:
    """A connection to the pod, its host key checked; see `ssh.connection.connected` for what it raises."""
    from runner_provisioner.ssh.connection import connected  # noqa: PLC0415 - asyncssh is slow to import
    from runner_provisioner.ssh.targets import target_of  # noqa: PLC0415 - keeps --help quick

    target = target_of(pod, trust_first=trust_first)
    where = f"{target.endpoint.user}@{target.endpoint.host} port {target.endpoint.port}"
    session.talk(f"connecting to {where}{trusted(pod)}")
    async with connected(target, identity_of(identity), clock=clock) as connection:
        yield connection
