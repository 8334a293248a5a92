"""`offers`: what a start would try now."""

from __future__ import annotations

from typing import Any

import click

from runner_provisioner.cli.options import request_of, request_options
from runner_provisioner.cli.session import Session, command_options, run, table, usd
from runner_provisioner.domain.request import StartRequest


@click.command("offers")
@request_options(StartRequest)
@command_options
def command(*, session: Session, **values: Any) -> None:  # noqa: ANN401 - the options of the request
    """Show what could be rented now, in the order it would be tried, and why the rest would not be.

    Takes the options of start; exits with 20, 21 or 25 when nothing could be rented.
    """
    request = request_of(StartRequest, values)
    run(lambda: _offers(session, request))


async def _offers(session: Session, request: StartRequest) -> None:
    from runner_provisioner.cli.program import opened  # noqa: PLC0415 - imports everything
    from runner_provisioner.domain.ladder import nothing_rented  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.services.chronicle import Chronicle  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.services.offers import survey  # noqa: PLC0415 - keeps --help quick

    async with opened(session, needs_github=False) as program:
        memory = await Chronicle(program.history, clock=program.clock, events=program.events).memory()
        found = await survey(program.providers, request.gpus, memory)
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
                    "refused": reason or None,
                }
                for offer, reason in (*tried, *refused)
            ]
        }
        lines = table(
            ("GPU", "count", "kind", "USD/h", "stock", "refused because"),
            [
                (
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
        if not found.rungs:
            raise nothing_rented(request.gpus, found.refusals)
