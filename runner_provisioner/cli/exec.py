"""`exec`: run a command in a pod, its output apart and its exit code ours."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from runner_provisioner.cli.connecting import connected_to, login_options
from runner_provisioner.cli.finding import Selector, WithRemoteCommand, find_pod, pod_options, split_words, with_program
from runner_provisioner.cli.options import Duration
from runner_provisioner.cli.session import Session, command_options, run
from runner_provisioner.errors import InvalidRequest

if TYPE_CHECKING:
    from runner_provisioner.ssh.commands import Streams
    from runner_provisioner.wiring import Program


@click.command("exec", cls=WithRemoteCommand)
@click.argument("words", nargs=-1, metavar="[POD] -- CMD...")
@pod_options
@login_options
@click.option("--timeout", type=Duration(), metavar="TIME", help="End the command in the pod after this time.")
@command_options
def command(
    *,
    session: Session,
    words: tuple[str, ...],
    selector: Selector,
    identity: str | None,
    trust_first: bool,
    timeout: timedelta | None,
) -> None:
    """Run a command in a pod: exec POD -- nvidia-smi -L.

    Several words are a program and exactly its arguments; one word is a line for the pod's shell. What is piped in is
    passed on. Ends with the command's exit code, 128 + n after signal n; 124 when it was ended after --timeout, and 255
    (beside a line that begins with "error:") when SSH failed. --json prints output and code when all is over.
    """
    selector, remote = split_words(selector, words)
    if not remote or not remote[0].strip():
        raise InvalidRequest("no command: write it after two dashes, as in exec POD -- nvidia-smi")

    async def work(program: Program) -> int:
        from runner_provisioner.ssh.commands import command_line, execute  # noqa: PLC0415 - asyncssh is slow to import

        kept: list[tuple[int, bytes]] = []
        pod = await find_pod(session, program, selector)
        async with connected_to(session, program.clock, pod, identity, trust_first=trust_first) as connection:
            limit = timeout.total_seconds() if timeout else None
            streams = _streams(kept if session.as_json else None)
            status = await execute(connection, command_line(remote), streams, limit=limit)
        if session.as_json:
            session.show({"pod-id": pod.id, "exit-code": status, "stdout": _text(kept, 1), "stderr": _text(kept, 2)})
        return status

    raise SystemExit(run(lambda: with_program(session, work)))


def _streams(kept: list[tuple[int, bytes]] | None) -> Streams:
    from runner_provisioner.cli.streams import outlet, own_input  # noqa: PLC0415 - asyncio is slow to import
    from runner_provisioner.ssh.commands import Streams  # noqa: PLC0415 - asyncssh is slow to import

    if kept is None:
        return Streams(stdout=outlet(1), stderr=outlet(2), stdin=own_input())

    async def out(piece: bytes) -> None:
        kept.append((1, piece))

    async def err(piece: bytes) -> None:
        kept.append((2, piece))

    return Streams(stdout=out, stderr=err, stdin=own_input())


def _text(kept: list[tuple[int, bytes]], number: int) -> str:
    return b"".join(piece for which, piece in kept if which == number).decode("utf-8", "replace")
