"""`stop`: end what a start of this run made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runner_provisioner.cli.session import Session, command_options, place_of, place_options, run, run_part
from runner_provisioner.errors import InvalidRequest

if TYPE_CHECKING:
    from runner_provisioner.domain.names import RunKey
    from runner_provisioner.wiring import Place


@click.command("stop")
@place_options
@click.option("--key", default="default", show_default=True, metavar="KEY", help="The key of the start.")
@click.option("--run-id", metavar="RUN", help="The workflow run, or what a local start printed.")
@click.option("--all", "every_attempt", is_flag=True, help="End this key in every attempt of the run.")
@command_options
def command(
    *,
    session: Session,
    repository: str | None,
    organization: str | None,
    owner: str | None,
    key: str,
    run_id: str | None,
    every_attempt: bool,
) -> None:
    """End a run's pod and runner, in all attempts up to the current one, and look that they are gone."""
    from runner_provisioner.domain.names import RunKey  # noqa: PLC0415 - keeps --help quick

    part = run_part(run_id, session.settings)
    if part is None:
        raise InvalidRequest("which run? give --run-id with what start printed; in a workflow it is known")
    place = place_of(session, repository, organization, owner)
    run_key = RunKey(owner8=place.owner8, run=part[0], attempt=part[1], key=key)
    elsewhere = run_id is not None and part[1] > 0 and session.settings.run_id != run_key.run_id
    run(lambda: _stop(session, place, run_key, every_attempt=every_attempt or elsewhere))


async def _stop(session: Session, place: Place, key: RunKey, *, every_attempt: bool) -> None:
    from runner_provisioner.cli.progress import Progress  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.cli.session import redactor  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.clock import SystemClock  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.storage.state_file import StateFile  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.wiring import assemble  # noqa: PLC0415 - imports everything

    clock = SystemClock()
    progress = Progress(session, clock)
    async with assemble(session.settings, events=progress, redactor=redactor(), place=place, clock=clock) as program:
        ended = await program.ending().stop(key, every_attempt=every_attempt)
        for one in ended:
            StateFile(session.settings.state_dir / f"{one.name}.json", creator="").forget()
        data = {"ended": [{"name": one.name, "pods": list(one.pods)} for one in ended], "timeline": session.timeline}
        lines = [
            f"{one.name}: nothing left" + (f" (ended pod {', '.join(one.pods)})" if one.pods else "") for one in ended
        ]
        session.show(data, lines=lines, metrics=program.metrics)
