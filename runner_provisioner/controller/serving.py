"""One running service: its parts built, its round made every minute, its server run until a signal."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from types import FrameType

import anyio
import uvicorn

from runner_provisioner.controller.access import Access
from runner_provisioner.controller.app import Opened, create_app
from runner_provisioner.controller.closing import Closing
from runner_provisioner.controller.limits import RateLimits
from runner_provisioner.controller.metrics import Metrics
from runner_provisioner.controller.parts import DEFAULT_MAX_PRICE, Parts
from runner_provisioner.controller.readiness import Readiness
from runner_provisioner.domain.budget import Budget
from runner_provisioner.drafts import letters
from runner_provisioner.errors import RunnerProvisionerError
from runner_provisioner.logging import get_logger
from runner_provisioner.service_ports import ServiceState
from runner_provisioner.services.asking import LIMIT
from runner_provisioner.services.budget import Purse
from runner_provisioner.services.chronicle import Chronicle
from runner_provisioner.services.manual import ManualPods
from runner_provisioner.services.markets import Markets
from runner_provisioner.services.once import Once
from runner_provisioner.services.orders import Orders
from runner_provisioner.services.provision import CANCEL_WINDOW
from runner_provisioner.services.served import Served
from runner_provisioner.services.shelf import Shelf
from runner_provisioner.wiring import Program, manual_owner8

ROUND = 60.0
"""Seconds from the begin of one look at the service's pods to that of the next."""
PER_MINUTE = 600
GRACE = 30
"""Seconds that requests under way have to end in once the service is told to stop; told again, it cuts them at once."""
_LAST = CANCEL_WINDOW + 5.0
"""Seconds that what is cut may take to end what it has rented and to answer."""
_MACHINES_OF = "celium"
_ENDING = (signal.SIGINT, signal.SIGTERM)

log = get_logger("controller")


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What whoever serves has chosen; `closed`: a key is needed though there are none."""

    owner: str | None = None
    hosts: tuple[str, ...] = ()
    closed: bool = False
    per_minute: int = PER_MINUTE
    max_price: Decimal = DEFAULT_MAX_PRICE


def build(program: Program, state: ServiceState, metrics: Metrics, choices: Choices) -> Parts:
    """The parts of a service over the program's providers. Nothing is sent yet."""
    owner8 = manual_owner8(program.settings, choices.owner)

    def market(names: Sequence[str]) -> ManualPods:
        chosen = {name: one for name, one in program.providers.items() if not names or name in names}
        return ManualPods(
            chosen,
            clock=program.clock,
            settle=program.settings.settle,
            chronicle=Chronicle(program.history, clock=program.clock, events=program.events),
            events=program.events,
            patience=LIMIT,
        )

    def markets(names: Sequence[str]) -> Markets:
        chosen = {name: one for name, one in program.providers.items() if not names or name in names}
        return Markets(chosen, market(names))

    def purse(lifetime: timedelta) -> Purse:
        return Purse(
            Budget(day=program.settings.budget_day, month=program.settings.budget_month),
            providers=program.providers,
            history=program.history,
            clock=program.clock,
            events=program.events,
            owner8=owner8,
            lifetime=lifetime,
        )

    once = Once(state.requests, clock=program.clock, events=program.events, holder=secrets.token_hex(8))
    orders = Orders(
        state,
        market,
        once,
        clock=program.clock,
        owner8=owner8,
        repository=program.settings.repository,
        letters=letters,
        settle=program.settings.settle,
        purse=purse,
    )
    return Parts(
        state=state,
        clock=program.clock,
        providers=program.providers,
        market=market,
        markets=markets,
        orders=orders,
        served=Served(state, market, orders, clock=program.clock, events=program.events, owner8=owner8),
        shelf=Shelf(program.providers, once, clock=program.clock, named_plainly=_MACHINES_OF),
        access=Access(state.keys, clock=program.clock, closed=choices.closed),
        limits=RateLimits(program.clock, per_minute=choices.per_minute),
        metrics=metrics,
        readiness=Readiness(state.check),
        closing=Closing(program.tempo.hurry),
        redact=program.redactor.redact,
        hosts=choices.hosts,
        max_price=choices.max_price,
    )


@asynccontextmanager
async def looked_after(parts: Parts) -> AsyncIterator[Parts]:
    """The service with its round."""
    async with anyio.create_task_group() as group:
        group.start_soon(rounds, parts)
        yield parts
        group.cancel_scope.cancel()


async def rounds(parts: Parts) -> None:
    """Look after the pods for ever; what fails is logged, and the next round comes all the same."""
    while True:
        begun = parts.clock.monotonic()
        try:
            tally = await parts.served.round()
            parts.metrics.spend(pods=tally.pods, hourly=tally.hourly, spent=tally.spent)
        except RunnerProvisionerError as error:
            log.warning("round_failed", reason=parts.redact(str(error)))
        except Exception:  # nobody but the next round ends a pod that is past its time
            log.exception("round_failed")
        await parts.clock.sleep(max(0.0, begun + ROUND - parts.clock.monotonic()))


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 is a free one. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=2048)
    # asyncio sets it for sockets of its own making alone, and without it an answer in two pieces takes 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


async def serve(opened: Opened, listener: socket.socket, *, hosts: tuple[str, ...]) -> None:
    """Serve until SIGINT or SIGTERM; what is under way then has half a minute. RuntimeError: it did not begin."""
    app = create_app(opened, hosts=hosts)

    def cut() -> None:
        parts: Parts = app.state.parts
        parts.closing.cut()

    config = uvicorn.Config(
        app,
        log_config=None,
        log_level=logging.ERROR,  # its warnings are of what anybody may send
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=math.ceil(GRACE + _LAST),
    )
    server = _Server(config, cut)
    await server.serve(sockets=[listener])
    if not server.started:
        raise RuntimeError("the service could not begin: its log tells why")


class _Server(uvicorn.Server):
    """Ends well on a signal, instead of dying of it once all is done."""

    def __init__(self, config: uvicorn.Config, cut: Callable[[], None]) -> None:
        super().__init__(config)
        self._cut = cut

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal gives what is under way its time, the second takes it away."""
        del sig, frame
        if self.started and self.should_exit:
            self._cut()
        elif self.started:
            asyncio.get_running_loop().call_later(GRACE, self._cut)
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """For as long as it serves."""
        loop = asyncio.get_running_loop()
        for number in _ENDING:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in _ENDING:
                loop.remove_signal_handler(number)
