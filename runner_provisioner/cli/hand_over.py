"""`hand-over`: another configuration for a runner that GitHub removed while it waited for its job."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runner_provisioner.cli.finding import Selector, find_pod, pod_options
from runner_provisioner.cli.session import Session, command_options, run
from runner_provisioner.errors import InvalidRequest, NotFound, RemoteError, TransientError

if TYPE_CHECKING:
    from runner_provisioner.domain.pods import Pod
    from runner_provisioner.services.jit import JitHandOver
    from runner_provisioner.wiring import Place, Program


@click.command("hand-over")
@click.argument("pod_id", required=False, metavar="[POD]")
@pod_options
@click.option("--follow", "-f", is_flag=True, help="Go on until the pod ends.")
@click.option("--extra-label", multiple=True, metavar="LABEL", help="What start was given as --label; may be repeated.")
@click.option("--runner-group", metavar="NAME", help="What start was given as --runner-group.")
@command_options
def command(
    *,
    session: Session,
    pod_id: str | None,
    selector: Selector,
    follow: bool,
    extra_label: tuple[str, ...],
    runner_group: str | None,
) -> None:
    """Hand a new configuration over to a pod of start --registration jit, if it waits for one and its job is queued.

    GitHub removes a runner that waits for its job for some minutes; its pod then asks for another configuration. Needs
    the same keys of providers as the start.
    """
    chosen = selector.with_id(pod_id)
    place = chosen.place(session)
    if place.repository is None:
        raise InvalidRequest("whose queue? give --repository OWNER/NAME beside --organization")

    async def work() -> None:
        from runner_provisioner.cli.program import opened  # noqa: PLC0415 - imports everything

        async with opened(session, place=place, runner_group=runner_group) as program:
            pod = await find_pod(session, program, chosen)
            jit = _way(program, pod, extra_label)
            count = await (_follow if follow else _once)(session, program, place, pod, jit)
        what = f"handed over {count} times" if count else "nothing was handed over"
        session.show({"pod-id": pod.id, "handed-over": count}, lines=[f"{pod.id}: {what}"])

    run(work)


def _way(program: Program, pod: Pod, extra: tuple[str, ...]) -> JitHandOver:
    tags = pod.tags
    if tags is None or not (tags.host_key or pod.pinned) or tags.nonce is None or tags.label is None:
        raise NotFound(f"pod {pod.id} is not one that start rented for a runner: 'status' shows those")
    return program.jit(tags.nonce, labels=(tags.label, *extra))


async def _once(_session: Session, program: Program, place: Place, pod: Pod, jit: JitHandOver) -> int:
    assert program.github is not None  # noqa: S101 - asked for by the command
    assert place.repository is not None  # noqa: S101 - checked by the command
    return int(await jit.give_if_wanted(pod, program.github.queue, place.repository))


async def _follow(session: Session, program: Program, place: Place, pod: Pod, jit: JitHandOver) -> int:
    """Until the pod ends; what fails is tried again, as its error is told."""
    count, told = 0, ""
    found: Pod | None = pod
    while found is not None and found.alive:
        try:
            given = await _once(session, program, place, program.remembered(found), jit)
            count += given
            if given:
                session.talk(f"pod {pod.id}: handed over")
            await program.clock.sleep(session.settings.poll_booting)
            found = await program.providers[pod.provider].get(pod.id)
        except RemoteError as error:
            if not isinstance(error, TransientError) and str(error) == told:
                raise
            told = str(error)
            session.warn(told)
            await program.clock.sleep(session.settings.poll_booting)
    return count
