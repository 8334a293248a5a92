"""`status`: what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runner_provisioner.cli.session import Session, command_options, narrowable, place_of, place_options, run

if TYPE_CHECKING:
    from runner_provisioner.wiring import Place


@click.command("status")
@place_options
@command_options
@narrowable
def command(*, session: Session, repository: str | None, organization: str | None, owner: str | None) -> None:
    """Show all pods and runners of this owner, and who is taken to own each."""
    place = place_of(session, repository, organization, owner)
    run(lambda: _status(session, place))


async def _status(session: Session, place: Place) -> None:
    from runner_provisioner.cli.cleanup import describe, rows, unseen  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.cli.program import opened  # noqa: PLC0415 - imports everything

    async with opened(session, place=place) as program:
        seen = await program.sweep(whole=not session.providers).survey()
        data = {"entries": [describe(entry) for entry in seen.entries], "errors": [str(error) for error in seen.errors]}
        session.show(data, lines=rows(seen.entries) + unseen(seen.errors) or ["nothing of ours is there"])
        for error in seen.errors[1:]:
            session.warn(str(error))
        if seen.errors:
            raise seen.errors[0]
