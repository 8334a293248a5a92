"""`cleanup`: end what nothing owns any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from runner_provisioner.cli.session import (
    Session,
    command_options,
    narrowable,
    place_of,
    place_options,
    run,
    table,
    usd,
    when,
)
from runner_provisioner.errors import InvalidRequest, LeftBehind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner_provisioner.domain.stuck import QueuedJob
    from runner_provisioner.errors import RemoteError
    from runner_provisioner.services.stuck import Freed, StuckRuns
    from runner_provisioner.services.sweep import Entry, Sweep, Swept
    from runner_provisioner.wiring import Place


@click.command("cleanup")
@place_options
@click.option("--dry-run", is_flag=True, help="Only say what would be ended; 30 when there is something.")
@click.option(
    "--cancel-stuck",
    is_flag=True,
    help="Also cancel runs of the repository with a job that waits for over 5 minutes for a machine that is gone.",
)
@command_options
@narrowable
def command(
    *,
    session: Session,
    repository: str | None,
    organization: str | None,
    owner: str | None,
    dry_run: bool,
    cancel_stuck: bool,
) -> None:
    """End every pod and runner that nothing owns any more, and look that they are gone.

    Exit code 0: nothing leaks. 30: what is printed as left still does. Another: something could not be looked at.
    """
    if cancel_stuck and session.providers:
        raise InvalidRequest("--cancel-stuck needs to see every machine: leave --provider out")
    place = place_of(session, repository, organization, owner)
    run(lambda: _cleanup(session, place, dry_run=dry_run, cancel_stuck=cancel_stuck))


async def _cleanup(session: Session, place: Place, *, dry_run: bool, cancel_stuck: bool) -> None:
    from runner_provisioner.cli.bookkeeping import book_cleanup, keyless  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.cli.program import opened  # noqa: PLC0415 - imports everything
    from runner_provisioner.services.stuck import Freed  # noqa: PLC0415 - keeps --help quick

    async with opened(session, place=place) as program:
        stuck = program.stuck_runs() if cancel_stuck else None
        swept = await _sweep(program.sweep(whole=not session.providers), dry_run=dry_run)
        told = {} if session.providers else {entry.name: entry.at for entry in swept.kept}
        for line in await keyless(session, program, told):
            session.warn(f"could not look at {line}")
        if not dry_run:
            await book_cleanup(session, program, swept)
        freed = await _free(stuck, dry_run=dry_run) if stuck is not None else Freed()
        _report(session, swept, freed, dry_run=dry_run)


async def _sweep(sweep: Sweep, *, dry_run: bool) -> Swept:
    from runner_provisioner.services.sweep import Swept  # noqa: PLC0415 - keeps --help quick

    if not dry_run:
        return await sweep.run()
    seen = await sweep.survey()
    orphans = tuple(f"{entry.kind} {entry.name}" for entry in seen.orphans)
    return Swept(ended=(), kept=seen.entries, errors=seen.errors, left=orphans)


async def _free(stuck: StuckRuns, *, dry_run: bool) -> Freed:
    from runner_provisioner.services.stuck import Freed  # noqa: PLC0415 - keeps --help quick

    if not dry_run:
        return await stuck.run()
    seen = await stuck.survey()
    return Freed(left=seen.jobs, errors=(seen.error,) if seen.error else ())


def _report(session: Session, swept: Swept, freed: Freed, *, dry_run: bool) -> None:
    from runner_provisioner.cli.summary import of_cleanup, publish  # noqa: PLC0415 - keeps --help quick

    left = [*swept.left, *(f"run {job.run_id}" for job in freed.left)]
    errors = [*swept.errors, *freed.errors]
    data = {
        "dry-run": dry_run,
        "ended": [describe(entry) for entry in swept.ended],
        "kept": [describe(entry) for entry in swept.kept],
        "cancelled": [describe_job(job) for job in freed.cancelled],
        "left": left,
        "errors": [*(str(error) for error in errors), *swept.refusals],
        "timeline": session.timeline,
    }
    lines = [*(f"ended {entry.kind} {entry.name} ({entry.finding.reason})" for entry in swept.ended), *rows(swept.kept)]
    lines += [f"cancelled run {job.run_id} (job {job.name})" for job in freed.cancelled]
    lines += [*unseen(errors), *swept.refusals]
    session.show(data, lines=lines or ["nothing of ours is there"])
    publish(session, "GPU clean-up", of_cleanup(data))
    for job in freed.cancelled:
        session.warn(_cancelled(job))
    if left:
        # What could not be cancelled says why in its error.
        for error in freed.errors:
            session.warn(str(error))
        remedy = "run cleanup without --dry-run" if dry_run else "run cleanup again, or look at the provider"
        raise LeftBehind(f"still there: {', '.join(left)}: {remedy}", what=tuple(left))
    for error in errors[1:]:
        session.warn(str(error))
    if errors:
        raise errors[0]


def _cancelled(job: QueuedJob) -> str:
    return (
        f"run {job.run_id} was cancelled: job '{job.name}' waited since {when(job.queued_at)} for a machine that is "
        f"gone ({', '.join(sorted(job.wanted))}); start it again with 'Re-run all jobs'"
    )


def describe_job(job: QueuedJob) -> dict[str, Any]:
    """A job of a cancelled run for --json."""
    return {
        "run-id": str(job.run_id),
        "job": job.name,
        "labels": sorted(job.wanted),
        "queued-at": when(job.queued_at),
    }


def describe(entry: Entry) -> dict[str, Any]:
    """An entry for --json."""
    return {
        "kind": entry.kind,
        "name": entry.name,
        "id": entry.id,
        "provider": entry.provider,
        "verdict": entry.finding.verdict.value,
        "reason": entry.finding.reason,
        "state": entry.pod.state.value if entry.pod else None,
        "price-per-hour": str(entry.price) if entry.price is not None else None,
        "created-at": when(entry.pod.created_at) if entry.pod else None,
    }


def unseen(errors: Sequence[RemoteError]) -> list[str]:
    """What could not be looked at, one line for each service and cause."""
    return list(dict.fromkeys(f"could not look at {error.service or 'a service'}: {error}" for error in errors))


def rows(entries: Sequence[Entry]) -> list[str]:
    """Entries as a table; nothing for none."""
    if not entries:
        return []
    return table(
        ("kind", "name", "id", "state", "USD/h", "verdict", "why"),
        [
            (
                entry.kind,
                entry.name,
                entry.id,
                entry.pod.state.value if entry.pod else None,
                usd(entry.price),
                entry.finding.verdict.value,
                entry.finding.reason,
            )
            for entry in entries
        ],
    )
