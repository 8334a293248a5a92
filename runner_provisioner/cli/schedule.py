"""Whether somebody cleans up: a look at the repository's scheduled runs, from a start in a workflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner_provisioner.errors import RunnerProvisionerError

if TYPE_CHECKING:
    from runner_provisioner.cli.session import Session
    from runner_provisioner.wiring import Place, Program

WARNING = (
    "no scheduled clean-up has succeeded in the last 24 hours: what a broken run leaves would stay until its lifetime "
    "ends; add a scheduled workflow that runs 'cleanup' (a schedule stops after 60 quiet days and is off in forks; one "
    "that skipped for lack of credentials does not count)"
)


async def warn_unless_cleaned(session: Session, program: Program, place: Place) -> None:
    """Warn in Actions when no clean-up has succeeded of late; says nothing when that cannot be told. Never fails."""
    if not session.settings.in_actions or place.repository is None or program.github is None:
        return
    try:
        cleaned = await program.cleaned()
    except RunnerProvisionerError:
        return
    if cleaned is False:
        session.warn(WARNING)
