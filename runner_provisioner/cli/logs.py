"""`logs`: what the start script and the runner say in a pod."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runner_provisioner.cli.connecting import connected_to, login_options
from runner_provisioner.cli.finding import Selector, find_pod, pod_options, with_program
from runner_provisioner.cli.session import Session, command_options, run
from runner_provisioner.errors import SshFailed, TransientError

if TYPE_CHECKING:
    import anyio

    from runner_provisioner.domain.pods import Pod
    from runner_provisioner.wiring import Program

_AGAIN = 1.0


@click.command("logs")
@click.argument("pod_id", required=False, metavar="[POD]")
@pod_options
@login_options
@click.option("--follow", "-f", is_flag=True, help="Go on until the pod ends.")
@click.option("--diagnostics", is_flag=True, help="Also the runner's own log files (_diag).")
@command_options
def command(
    *,
    session: Session,
    pod_id: str | None,
    selector: Selector,
    identity: str | None,
    trust_first: bool,
    follow: bool,
    diagnostics: bool,
) -> None:
    """Show the log of the start script and the runner in a pod.

    The runner's lines begin with "runner:". They lie in the pod, beside the container log at the provider, and go with
    it. With --follow it ends with 0 when the pod ends.
    """
    chosen = selector.with_id(pod_id)

    async def work(program: Program) -> None:
        pod = await find_pod(session, program, chosen)
        reader = _Reader(session, program, identity, trust_first=trust_first, diagnostics=diagnostics)
        await (reader.follow(pod) if follow else reader.once(pod))

    run(lambda: with_program(session, work))


class _Reader:
    """Reads one pod's log, from where it stopped when the connection broke."""

    def __init__(
        self, session: Session, program: Program, identity: str | None, *, trust_first: bool, diagnostics: bool
    ) -> None:
        self._session = session
        self._program = program
        self._identity = identity
        self._trust_first = trust_first
        self._diagnostics = diagnostics
        self._kept = bytearray()
        self._had = 0

    async def once(self, pod: Pod) -> None:
        """As it is now."""
        await self._read(pod, follow=False)
        self._tell(pod)

    async def follow(self, pod: Pod) -> None:
        """Until the pod ends: a connection that breaks is made again while the pod lives."""
        import anyio  # noqa: PLC0415 - slow to import

        async with anyio.create_task_group() as group:
            group.start_soon(self._until_end, pod, group.cancel_scope)
            while await self._read_on(pod):
                await self._program.clock.sleep(_AGAIN)
            group.cancel_scope.cancel()
        self._session.talk(f"pod {pod.id} has ended")
        self._tell(pod)

    async def _until_end(self, pod: Pod, scope: anyio.CancelScope) -> None:
        """The provider knows of the end before a silent connection does."""
        while await self._lives(pod):
            await self._program.clock.sleep(self._session.settings.poll_running)
        scope.cancel()

    async def _read_on(self, pod: Pod) -> bool:
        """Read while the connection holds; whether to go on, which is no use where nothing came."""
        before = self._had
        try:
            await self._read(pod, follow=True)
        except SshFailed:
            if not await self._lives(pod):
                return False
            if self._had == before:
                raise
        return await self._lives(pod)

    async def _lives(self, pod: Pod) -> bool:
        try:
            found = await self._program.providers[pod.provider].get(pod.id)
        except TransientError:
            return True  # not known to have ended
        return found is not None and found.alive

    async def _read(self, pod: Pod, *, follow: bool) -> None:
        from runner_provisioner.ssh.commands import Streams, execute  # noqa: PLC0415 - asyncssh is slow to import
        from runner_provisioner.ssh.inside import (  # noqa: PLC0415 - keeps --help quick
            NOTHING_OF_OURS,
            log_command,
            nothing_of_ours,
        )

        question = log_command(pod.id, skip=self._had, follow=follow, diagnostics=self._diagnostics)
        streams = Streams(stdout=self._write, stderr=_nowhere)
        async with connected_to(
            self._session, self._program.clock, pod, self._identity, trust_first=self._trust_first
        ) as connection:
            if await execute(connection, question, streams) == NOTHING_OF_OURS:
                raise nothing_of_ours(pod.id)

    async def _write(self, piece: bytes) -> None:
        from runner_provisioner.cli.streams import outlet  # noqa: PLC0415 - asyncio is slow to import

        self._had += len(piece)
        if self._session.as_json:
            self._kept += piece
        else:
            await outlet(1)(piece)

    def _tell(self, pod: Pod) -> None:
        if self._session.as_json:
            self._session.show({"pod-id": pod.id, "log": self._kept.decode("utf-8", "replace")})


async def _nowhere(_piece: bytes) -> None:
    pass
