"""What the application is made of; built by whoever serves it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from starlette.requests import Request

from runner_provisioner.controller.access import Access
from runner_provisioner.controller.closing import Closing
from runner_provisioner.controller.limits import RateLimits
from runner_provisioner.controller.metrics import Metrics
from runner_provisioner.controller.readiness import Readiness
from runner_provisioner.ports import Clock, GpuProvider
from runner_provisioner.service_ports import ServiceState
from runner_provisioner.services.manual import ManualPods
from runner_provisioner.services.markets import Markets
from runner_provisioner.services.orders import Orders
from runner_provisioner.services.served import Served
from runner_provisioner.services.shelf import Shelf

DEFAULT_MAX_PRICE = Decimal(25)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """One running service.

    `market` gives the pods of some providers, or of all; `max_price` is the most that a pod may cost, US dollars per
    hour; `redact` takes secrets out of a text.
    """

    state: ServiceState
    clock: Clock
    providers: Mapping[str, GpuProvider]
    market: Callable[[Sequence[str]], ManualPods]
    markets: Callable[[Sequence[str]], Markets]
    orders: Orders
    served: Served
    shelf: Shelf
    access: Access
    limits: RateLimits
    metrics: Metrics
    readiness: Readiness
    closing: Closing
    redact: Callable[[str], str]
    hosts: tuple[str, ...] = ()
    max_price: Decimal = DEFAULT_MAX_PRICE


def parts_of(request: Request) -> Parts:
    """The parts of the application that serves the request."""
    found: Parts = request.app.state.parts
    return found
