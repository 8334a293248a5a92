"""`cleanup`: end what nothing owns any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from runner_provisioner.cli.session import Session, command_options, place_of, place_options, run, table, usd, when
from runner_provisioner.errors import LeftBehind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner_provisioner.services.sweep import Entry, Swept
    from runner_provisioner.wiring import Place


@click.command("cleanup")
@place_options
@click.option("--dry-run", is_flag=True, help="Only say what would be ended; 30 when there is something.")
@command_options
def command(
    *, session: Session, repository: str | None, organization: str | None, owner: str | None, dry_run: bool
) -> None:
    """End every pod and runner that nothing owns any more, and look that they are gone.

    Exit code 0: nothing leaks. 30: what is printed as left still does. Another: something could not be looked at.
    """
    place = place_of(session, repository, organization, owner)
    run(lambda: _cleanup(session, place, dry_run=dry_run))


async def _cleanup(session: Session, place: Place, *, dry_run: bool) -> None:
    from runner_provisioner.cli.program import opened  # noqa: PLC0415 - imports everything
    from runner_provisioner.services.sweep import Swept  # noqa: PLC0415 - keeps --help quick

    async with opened(session, place=place) as program:
        sweep = program.sweep()
        if dry_run:
            seen = await sweep.survey()
            orphans = tuple(f"{entry.kind} {entry.name}" for entry in seen.orphans)
            swept = Swept(ended=(), kept=seen.entries, errors=seen.errors, left=orphans)
        else:
            swept = await sweep.run()
        _report(session, swept, dry_run=dry_run)


def _report(session: Session, swept: Swept, *, dry_run: bool) -> None:
    from runner_provisioner.cli.summary import of_cleanup, publish  # noqa: PLC0415 - keeps --help quick

    data = {
        "dry-run": dry_run,
        "ended": [describe(entry) for entry in swept.ended],
        "kept": [describe(entry) for entry in swept.kept],
        "left": list(swept.left),
        "errors": [str(error) for error in swept.errors],
        "timeline": session.timeline,
    }
    lines = [*(f"ended {entry.kind} {entry.name} ({entry.finding.reason})" for entry in swept.ended), *rows(swept.kept)]
    session.show(data, lines=lines or ["nothing of ours is there"])
    publish(session, "GPU clean-up", of_cleanup(data))
    if swept.left:
        remedy = "run cleanup without --dry-run" if dry_run else "run cleanup again, or look at the provider"
        raise LeftBehind(f"still there: {', '.join(swept.left)}: {remedy}", what=swept.left)
    for error in swept.errors[1:]:
        session.warn(str(error))
    if swept.errors:
        raise swept.errors[0]


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
