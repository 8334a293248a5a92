"""`rerun`: repeat the jobs of a run that lost their machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from runner_provisioner.cli.guard import guarded
from runner_provisioner.cli.options import request_of, request_options
from runner_provisioner.cli.session import Session, command_options, place_of, place_options, run
from runner_provisioner.domain.request import StartRequest
from runner_provisioner.errors import LeftBehind, StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from runner_provisioner.domain.names import RunKey
    from runner_provisioner.services.provision import Started
    from runner_provisioner.services.rerun import Rerun, Survey
    from runner_provisioner.wiring import Place, Program

LARGEST_RUN = 2**63


@click.command("rerun")
@place_options
@click.option(
    "--run-id", type=click.IntRange(1, LARGEST_RUN), required=True, metavar="RUN", help="The run that failed."
)
@click.option(
    "--attempt", type=click.IntRange(1, 10_000), required=True, metavar="N", help="Which attempt of it has ended."
)
@click.option(
    "--max-attempts",
    type=click.IntRange(1, 10_000),
    default=3,
    show_default=True,
    metavar="N",
    help="How many attempts the run may have in all.",
)
@click.option(
    "--own",
    is_flag=True,
    help="Only end what an unfinished rerun left whose state files are here; nothing without one.",
)
@request_options(StartRequest)
@guarded
@command_options
def command(
    *,
    session: Session,
    repository: str | None,
    organization: str | None,
    owner: str | None,
    run_id: int,
    attempt: int,
    max_attempts: int,
    own: bool,
    **values: Any,  # noqa: ANN401 - the options of the request
) -> None:
    """Rent new machines for the jobs of an attempt that lost theirs, then re-run its failed jobs.

    Does nothing, and says why, unless interruptions explain every job that failed. After the second interruption of a
    job its next machine is one that the provider cannot take back.
    """
    request: StartRequest = request_of(StartRequest, values)
    place = place_of(session, repository, organization, owner)
    if own:
        run(lambda: _settle(session, place, run_id, attempt))
        return
    run(lambda: _rerun(session, place, request, run_id, attempt, max_attempts))


async def _rerun(session: Session, place: Place, request: StartRequest, run_id: int, attempt: int, most: int) -> None:
    from runner_provisioner.cli.program import opened  # noqa: PLC0415 - imports everything
    from runner_provisioner.cli.repeating import rerun_of  # noqa: PLC0415 - imports everything

    group, required = request.runner_group, request.provider
    async with opened(session, place=place, runner_group=group, required=required) as program:
        again = rerun_of(program, place, run_id, attempt)
        survey = await again.survey(most_attempts=most)
        started = await _carry_out(session, program, again, survey, request) if survey.jobs else []
    _report(session, run_id, attempt, survey, started)


async def _carry_out(
    session: Session, program: Program, again: Rerun, survey: Survey, request: StartRequest
) -> list[Started]:
    from runner_provisioner.cli.repeating import rentals_of  # noqa: PLC0415 - imports everything
    from runner_provisioner.cli.ssh_keys import public_keys  # noqa: PLC0415 - keeps --help quick

    ssh_keys = await program.public_keys(request, await public_keys(request.ssh_key))
    folder = session.settings.state_dir
    rentals = rentals_of(program, request, survey.jobs, folder=folder, ssh_keys=ssh_keys)
    return await again.carry_out(rentals)


def _report(session: Session, run_id: int, attempt: int, survey: Survey, started: Sequence[Started]) -> None:
    from runner_provisioner.cli.start import outputs_of  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.cli.summary import of_rerun, publish  # noqa: PLC0415 - keeps --help quick

    machines = [outputs_of(one) for one in started]
    data = {
        "run-id": str(run_id),
        "attempt": attempt + 1 if started else None,
        "why-not": survey.why_not,
        "interrupted": [
            {"name": job.key.name, "label": job.label, "times": job.times} for job in survey.findings.explained
        ],
        "started": machines,
        "timeline": session.timeline,
    }
    told = f"run {run_id} is not repeated: {survey.why_not}" if survey.why_not else f"run {run_id} is repeated"
    session.show(data, lines=[told, *(f"{one['runner-name']}: {one['gpu-type']}" for one in machines)])
    publish(session, f"Re-run of {run_id}", of_rerun(data, told))


async def _settle(session: Session, place: Place, run_id: int, attempt: int) -> None:
    """End what a rerun left that was cut off; what a new attempt has come to own is left alone."""
    from runner_provisioner.cli.program import opened  # noqa: PLC0415 - imports everything
    from runner_provisioner.cli.repeating import rerun_of, settle  # noqa: PLC0415 - imports everything

    found = _states(session.settings.state_dir, place.owner8, run_id, attempt + 1)
    if not found:
        session.show({"ended": [], "timeline": []}, lines=["this rerun has left nothing here"])
        return
    ended: list[str] = []
    errors: list[LeftBehind | StoreError] = []
    async with opened(session, place=place) as program:
        if await rerun_of(program, place, run_id, attempt).has_begun():
            session.show({"ended": [], "timeline": []}, lines=[f"attempt {attempt + 1} exists: its stop ends it"])
            return
        for path, key in found:
            try:
                ended += [one.name for one in await settle(program, path, key)]
            except (LeftBehind, StoreError) as error:
                errors.append(error)
    session.show({"ended": ended, "timeline": session.timeline}, lines=[f"{name}: nothing left" for name in ended])
    if errors:
        raise errors[0]


def _states(folder: Path, owner8: str, run_id: int, attempt: int) -> list[tuple[Path, RunKey]]:
    """The state files of one attempt of one run."""
    from runner_provisioner.domain.names import RunKey  # noqa: PLC0415 - keeps --help quick

    named = ((path, RunKey.parse(path.stem)) for path in sorted(folder.glob(f"rp-{owner8}-*.json")))
    found = [(path, key) for path, key in named if key is not None]
    return [(path, key) for path, key in found if (key.run_id, key.attempt) == (run_id, attempt)]
