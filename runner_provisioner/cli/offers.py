"""`offers`: what a start would try now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from runner_provisioner.cli.options import request_of, request_options
from runner_provisioner.cli.session import Session, command_options, run, table, usd
from runner_provisioner.domain.request import StartRequest

if TYPE_CHECKING:
    from collections.abc import Collection

    from runner_provisioner.wiring import Program


@click.command("offers")
@request_options(StartRequest)
@command_options
def command(*, session: Session, **values: Any) -> None:  # noqa: ANN401 - the options of the request
    """Show what could be rented now, in the order it would be tried, and why the rest would not be.

    Takes the options of start; exits with 20, 21 or 25 when nothing could be rented.
    """
    request: StartRequest = request_of(StartRequest, values)
    session.providers = request.provider
    run(lambda: _offers(session, request))


async def _offers(session: Session, request: StartRequest) -> None:
    from runner_provisioner.cli.program import opened  # noqa: PLC0415 - imports everything
    from runner_provisioner.domain.ladder import nothing_rented  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.ports import has_kill_time  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.services.chronicle import Chronicle  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.services.offers import survey  # noqa: PLC0415 - keeps --help quick

    async with opened(session, needs_github=False) as program:
        memory = await Chronicle(program.history, clock=program.clock, events=program.events).memory()
        patience = program.tempo.request_timeout
        surveyed = await survey(program.providers, request.gpus, memory, patience=patience)
        found = surveyed.ladder
        tried = [(offer, "") for offer in found.rungs]
        refused = [(one.offer, str(one.error)) for one in found.refusals]
        data = {
            "offers": [
                {
                    "provider": offer.provider,
                    "gpu": offer.gpu_model,
                    "count": offer.gpu_count,
                    "interruptible": offer.interruptible,
                    "price-per-hour": str(offer.price) if offer.price else None,
                    "minimum-bid": str(offer.minimum_bid) if offer.minimum_bid is not None else None,
                    "stock": offer.stock,
                    "kill-time": has_kill_time(program.providers.get(offer.provider)),
                    "refused": reason or None,
                }
                for offer, reason in (*tried, *refused)
            ],
            "passed-over": [{"provider": name, "reason": str(error)} for name, error in surveyed.passed_over.items()],
        }
        lines = table(
            ("provider", "GPU", "count", "kind", "USD/h", "stock", "refused because"),
            [
                (
                    offer.provider if offer.provider in program.providers else None,
                    offer.gpu_model,
                    offer.gpu_count,
                    "interruptible" if offer.interruptible else "on-demand",
                    usd(offer.price or None),
                    offer.stock,
                    reason,
                )
                for offer, reason in (*tried, *refused)
            ],
        )
        session.show(data, lines=lines if len(lines) > 1 else ())
        for name, error in surveyed.passed_over.items():
            session.warn(f"{name} could not be asked: {error}")
        _tell_kill_times(session, program, request, {offer.provider for offer in found.rungs})
        if not found.rungs:
            raise nothing_rented(request.gpus, found.refusals)


def _tell_kill_times(session: Session, program: Program, request: StartRequest, names: Collection[str]) -> None:
    """Say which offers a start would skip unless somebody cleans up: whether one does, this command does not ask."""
    from runner_provisioner.ports import has_kill_time  # noqa: PLC0415 - keeps --help quick

    without = sorted(name for name in names if not has_kill_time(program.providers[name]))
    if without and not request.accept_no_kill_time:
        session.talk(
            f"{', '.join(without)}: no kill time, so that start rents there only when a scheduled clean-up has "
            "succeeded in the last 24 hours, or with --accept-no-kill-time"
        )
