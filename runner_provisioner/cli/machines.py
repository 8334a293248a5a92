"""`machines`: which machines are kept out, and letting them serve again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from runner_provisioner.cli.session import Session, command_options, run, table, when
from runner_provisioner.errors import InvalidRequest

if TYPE_CHECKING:
    from runner_provisioner.domain.quarantine import KeptOut


@click.command("machines")
@click.option("--forget", metavar="ID", help="Let this machine serve again: its failures are forgotten.")
@click.option("--forget-all", is_flag=True, help="Let all of them serve again.")
@command_options
def command(*, session: Session, forget: str | None, forget_all: bool) -> None:
    """Show the machines that are kept out because pods on them failed, or let them serve again.

    Asks this installation's own records and nobody else. A machine is kept out for 30 minutes, longer when it fails
    again.
    """
    if forget is not None and forget_all:
        raise InvalidRequest("--forget contradicts --forget-all: remove one of them")
    run(lambda: _machines(session, forget, forget_all=forget_all))


async def _machines(session: Session, forget: str | None, *, forget_all: bool) -> None:
    from runner_provisioner.clock import SystemClock  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.domain.quarantine import kept_out  # noqa: PLC0415 - likewise
    from runner_provisioner.wiring import history_of  # noqa: PLC0415 - imports everything

    clock = SystemClock()
    history = history_of(session.settings, clock)
    if history is None:
        raise InvalidRequest("RUNNER_PROVISIONER_HISTORY is off: nothing is remembered, so no machine is kept out")
    forgotten = 0
    try:
        if forget is not None or forget_all:
            forgotten = await history.forget(forget)
        out = kept_out((await history.memory(clock.now())).bad_machines, clock.now())
    finally:
        await history.aclose()
    if forget is not None and not forgotten:
        session.talk(f"no failure of machine {forget} is remembered: 'machines' lists those that are kept out")
    found = sorted(out.values(), key=str)
    data = {"kept-out": [describe(one) for one in found], "forgotten": forgotten}
    rows = [(one.machine, one.provider, f"{one.until:%Y-%m-%d %H:%M} UTC", one.failures, one.reason) for one in found]
    lines = table(("machine", "provider", "until", "failures", "reason"), rows) if rows else ["no machine is kept out"]
    session.show(data, lines=[*([f"forgotten: {forgotten}"] if forgotten else []), *lines])


def describe(one: KeptOut) -> dict[str, Any]:
    """A machine for --json."""
    return {
        "provider": one.provider,
        "machine": one.machine,
        "until": when(one.until),
        "failures": one.failures,
        "reason": one.reason,
    }
