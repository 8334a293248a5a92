"""The way into a pod that booted bare, with the one key of the account and the host key that was seen first."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from runner_provisioner.domain.bare import Inside, Stage
from runner_provisioner.errors import HostKeyChanged, InvalidRequest, LoginRefused, OutOfTime, SshFailed
from runner_provisioner.ssh.beginning import given, inside, look_command, take_command
from runner_provisioner.ssh.commands import Streams, answer, execute
from runner_provisioner.ssh.connection import SERVICE, Connection, Patience, connected, shown_by
from runner_provisioner.ssh.keys import Identity
from runner_provisioner.ssh.targets import target_of

if TYPE_CHECKING:
    from runner_provisioner.domain.pods import Pod, PodSpec
    from runner_provisioner.ports import Clock, HostKeys

_QUICK = Patience(coming_up=0.0, connect=5.0, login=10.0)
_ANSWERS = 10.0
_TAKES = 15.0


class SshBareDoor:
    """`ports.BareDoor`, with a login key that lives in memory alone."""

    def __init__(self, private_key: str, *, clock: Clock, host_keys: HostKeys) -> None:
        """`private_key` is an OpenSSH private key that the pods of the account let in."""
        self._identity = Identity(text=private_key)
        self._clock = clock
        self._host_keys = host_keys

    async def look(self, pod: Pod) -> Inside:
        """See the port: SHUT while nobody answers."""
        try:
            async with self._connected(pod) as (connection, pinned):
                _, text = await answer(connection, look_command(pod.id), limit=_ANSWERS)
        except (HostKeyChanged, LoginRefused):
            raise
        except (SshFailed, OutOfTime):
            return Inside(stage=Stage.SHUT)
        return replace(inside(text), pinned=pinned)

    async def begin(self, pod: Pod, spec: PodSpec) -> None:
        """See the port. Raises SshFailed when the pod did not take it."""
        if spec.command is None:
            raise InvalidRequest(f"nothing to start in pod {pod.id}: its spec has no command")
        text = given(pod.id, spec.command, spec.env)
        streams = Streams(stdout=_nowhere, stderr=_nowhere, stdin=_once(text))
        async with self._connected(pod) as (connection, _):
            try:
                status = await execute(connection, take_command(pod.id), streams, limit=_TAKES)
            except OutOfTime:
                status = 1
        if status:
            raise SshFailed(f"pod {pod.id} did not take its start: the next pass tries again", service=SERVICE)

    @asynccontextmanager
    async def _connected(self, pod: Pod) -> AsyncIterator[tuple[Connection, str | None]]:
        """A connection, and the fingerprint of its host key where that was pinned just now."""
        known = self._host_keys.known(pod)
        target = target_of(replace(pod, pinned=known), trust_first=True)
        async with connected(target, self._identity, clock=self._clock, patience=_QUICK) as connection:
            pinned = None
            if target.host_key is None:
                shown, pinned = shown_by(connection)
                if self._host_keys.pin(pod, shown) != shown:
                    raise HostKeyChanged(
                        f"pod {pod.id} shows another host key than to somebody else just now: not going on",
                        service=SERVICE,
                    )
            yield connection, pinned


async def _once(text: str) -> AsyncIterator[bytes]:
    yield text.encode()


async def _nowhere(_piece: bytes) -> None:
    pass
