"""Handing a runner's configuration over to the start script that waits for it (bootstrap/jit.sh)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from runner_provisioner.errors import OutOfTime, SshFailed
from runner_provisioner.ssh.commands import Streams, answer, execute
from runner_provisioner.ssh.connection import SERVICE, Connection, Patience, connected
from runner_provisioner.ssh.inside import give_command, waits_command
from runner_provisioner.ssh.keys import Identity
from runner_provisioner.ssh.targets import target_of

if TYPE_CHECKING:
    from runner_provisioner.domain.pods import Pod
    from runner_provisioner.ports import Clock, HostKeys

_QUICK = Patience(coming_up=0.0, connect=5.0, login=10.0)
_TAKES = 10.0


class SshHandOver:
    """`ports.HandOver`, with a key that lives in memory alone."""

    def __init__(self, private_key: str, *, clock: Clock, host_keys: HostKeys | None = None) -> None:
        """`private_key` is an OpenSSH private key that the pod lets in; `host_keys` tell of pods that say none."""
        self._identity = Identity(text=private_key)
        self._clock = clock
        self._host_keys = host_keys

    async def waits(self, pod: Pod) -> bool:
        """See the port. Raises HostKeyChanged, LoginRefused, InvalidRequest (the pod says no host key)."""
        try:
            async with self._connected(pod) as connection:
                status, _ = await answer(connection, waits_command(pod.id))
        except (SshFailed, OutOfTime) as error:
            if type(error) in {SshFailed, OutOfTime}:
                return False  # sshd is not up yet: the next pass asks again
            raise
        return status == 0

    async def give(self, pod: Pod, config: str) -> None:
        """See the port. Raises SshFailed when the pod did not take it."""
        streams = Streams(stdout=_nowhere, stderr=_nowhere, stdin=_line(config))
        async with self._connected(pod) as connection:
            try:
                status = await execute(connection, give_command(pod.id), streams, limit=_TAKES)
            except OutOfTime:
                status = 1
        if status:
            raise SshFailed(f"pod {pod.id} did not take its configuration: the next pass tries again", service=SERVICE)

    @asynccontextmanager
    async def _connected(self, pod: Pod) -> AsyncIterator[Connection]:
        if self._host_keys is not None:
            pod = replace(pod, pinned=self._host_keys.known(pod))
        async with connected(target_of(pod), self._identity, clock=self._clock, patience=_QUICK) as connection:
            yield connection


async def _line(text: str) -> AsyncIterator[bytes]:
    yield f"{text}\n".encode()


async def _nowhere(_piece: bytes) -> None:
    pass
