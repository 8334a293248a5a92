"""Opening the program for one command, so that what it counts is known however the command ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from runner_provisioner.cli.progress import Progress
from runner_provisioner.cli.session import Session, redactor
from runner_provisioner.clock import SystemClock
from runner_provisioner.wiring import assemble

if TYPE_CHECKING:
    from runner_provisioner._metrics import CallMetrics
    from runner_provisioner.ports import EventSink
    from runner_provisioner.wiring import Place, Program


@asynccontextmanager
async def opened(
    session: Session,
    *,
    place: Place | None = None,
    needs_github: bool = True,
    runner_group: str | None = None,
    events: EventSink | None = None,
    required: Sequence[str] = (),
    metrics: CallMetrics | None = None,
) -> AsyncIterator[Program]:
    """The program of a command; without `events` its events are told to a person. Raises a ConfigurationError.

    `required` are providers that must be among those that take part.
    """
    clock = SystemClock()
    async with assemble(
        session.settings,
        events=events or Progress(session, clock),
        redactor=redactor(),
        place=place,
        runner_group=runner_group,
        needs_github=needs_github,
        clock=clock,
        providers=session.providers,
        required=required,
        metrics=metrics,
    ) as program:
        session.metrics = program.metrics
        session.asked = tuple(program.providers)
        yield program
