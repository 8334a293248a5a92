"""`cp`: copy files to and from a pod."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runner_provisioner.cli.connecting import connected_to, login_options
from runner_provisioner.cli.finding import Selector, find_pod, pod_options, with_program
from runner_provisioner.cli.session import Session, command_options, run
from runner_provisioner.errors import InvalidRequest

if TYPE_CHECKING:
    from runner_provisioner.ssh.copying import Copy
    from runner_provisioner.wiring import Program


@click.command("cp")
@click.argument("source")
@click.argument("target")
@pod_options
@login_options
@click.option("--recursive", "-r", is_flag=True, help="Copy folders with all that is in them.")
@command_options
def command(
    *,
    session: Session,
    source: str,
    target: str,
    selector: Selector,
    identity: str | None,
    trust_first: bool,
    recursive: bool,
) -> None:
    """Copy a file to or from a pod: cp model.pt POD:/workspace, cp -r POD:/workspace/out results.

    The side in the pod is written POD:PATH, or :PATH beside --label or --run-id; a path without a leading slash begins
    in root's home there. A local name with a colon is written ./a:b. A target that is a folder is copied into. Links to
    files are copied as files; links to folders, broken links, devices and sockets are passed over and named.
    """
    there, here = _remote(source), _remote(target)
    if (there is None) == (here is None):
        raise InvalidRequest("one of the two is in the pod, as POD:PATH (a local name with a colon: ./a:b)")
    pod_id, path = there or here or ("", "")
    selector = selector.with_id(pod_id or None)

    async def work(program: Program) -> None:
        from runner_provisioner.ssh import copying  # noqa: PLC0415 - asyncssh is slow to import

        pod = await find_pod(session, program, selector)
        async with (
            connected_to(session, program.clock, pod, identity, trust_first=trust_first) as connection,
            copying.file_transfer(connection, pod.id) as sftp,
        ):
            if there is not None:
                plan = await copying.plan_download(sftp, path, Path(target), recursive=recursive)
            else:
                plan = await copying.plan_upload(sftp, Path(source), path, recursive=recursive)
            with _bar(session, plan) as progress:
                await (copying.download if there is not None else copying.upload)(sftp, plan, progress)
        _tell(session, pod.id, plan)

    run(lambda: with_program(session, work), after_cancel="files that were complete are there")


def _remote(text: str) -> tuple[str, str] | None:
    """Pod and path, as scp reads it: a colon before the first slash."""
    head, colon, path = text.partition(":")
    return (head, path) if colon and "/" not in head else None


@contextmanager
def _bar(session: Session, plan: Copy) -> Iterator[Callable[[int], None]]:
    if not session.on_terminal or session.as_json:
        yield lambda _count: None
        return
    with click.progressbar(length=max(plan.size, 1), label=f"{plan.files} files", file=sys.stderr) as bar:
        yield bar.update


def _tell(session: Session, pod_id: str, plan: Copy) -> None:
    from runner_provisioner.ssh.copying import shown  # noqa: PLC0415 - asyncssh is slow to import

    passed_over = [shown(path) for path in plan.passed_over]
    for path in passed_over:
        session.warn(f"passed over: {path}")
    data = {"pod-id": pod_id, "files": plan.files, "bytes": plan.size, "passed-over": passed_over}
    session.show(data)
    session.talk(f"copied {plan.files} files, {plan.size} bytes")
