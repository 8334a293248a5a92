"""`watch`: notice at once when the provider takes a pod back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runner_provisioner.cli.session import Session, command_options, place_of, place_options, run, run_part
from runner_provisioner.errors import InvalidRequest, PodInterrupted

if TYPE_CHECKING:
    from runner_provisioner.domain.names import RunKey
    from runner_provisioner.services.watch import Watched
    from runner_provisioner.wiring import Place


@click.command("watch")
@place_options
@click.option("--key", default="default", show_default=True, metavar="KEY", help="The key of the start.")
@click.option("--run-id", metavar="RUN", help="The workflow run, or what a local start printed.")
@click.option("--runner-group", metavar="NAME", help="What start was given as --runner-group.")
@command_options
def command(
    *,
    session: Session,
    repository: str | None,
    organization: str | None,
    owner: str | None,
    key: str,
    run_id: str | None,
    runner_group: str | None,
) -> None:
    """Follow a run's pod until its job is over; end it at once when the provider has taken it back.

    A pod of start --registration jit gets another configuration when GitHub has removed its runner while the job is
    queued.

    Exit code 0: the job is over, however it ended; or the pod came to its own end, was stopped by its user, or is gone
    without a job. 1: the pod was interrupted; 'rerun' repeats the job and this watch.
    """
    from runner_provisioner.domain.names import RunKey  # noqa: PLC0415 - keeps --help quick

    part = run_part(run_id, session.settings)
    if part is None:
        raise InvalidRequest("which run? give --run-id with what start printed; in a workflow it is known")
    place = place_of(session, repository, organization, owner)
    run_key = RunKey(owner8=place.owner8, run=part[0], attempt=part[1], key=key)
    run(lambda: _watch(session, place, run_key, runner_group))


async def _watch(session: Session, place: Place, key: RunKey, runner_group: str | None) -> None:
    from runner_provisioner.cli.program import opened  # noqa: PLC0415 - imports everything
    from runner_provisioner.cli.repeating import watch_of  # noqa: PLC0415 - imports everything

    async with opened(session, place=place, runner_group=runner_group) as program:
        watched = await watch_of(program, place).follow(key)
    _report(session, key, watched)


def _report(session: Session, key: RunKey, watched: Watched) -> None:
    from runner_provisioner.cli.interruption import keep, shown  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.cli.summary import of_watch, publish  # noqa: PLC0415 - keeps --help quick

    found = watched.interruption
    told = shown(found)
    publish(session, f"GPU runner {key.name}", of_watch(told, watched.over))
    if found is not None:
        keep(session, key, found)
    line = watched.over.value if found is None else f"interrupted ({found.reason}); its pod has been ended"
    session.show({"name": key.name, "interruption": told, "timeline": session.timeline}, lines=[f"{key.name}: {line}"])
    if watched.error is not None:
        raise watched.error
    if found is not None:
        raise PodInterrupted(
            f"the provider took the pod of {key.name} back ({found.reason}): re-run the failed jobs with a new "
            "machine, as 'rerun' does"
        )
