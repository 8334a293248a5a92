"""`serve`: the HTTP service."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

from runner_provisioner._urls import is_loopback
from runner_provisioner.cli.options import Price
from runner_provisioner.cli.session import Session, narrowable, service_options
from runner_provisioner.domain.money import BID_STEP
from runner_provisioner.errors import ConfigurationError, InvalidRequest

if TYPE_CHECKING:
    from runner_provisioner.controller.parts import Parts
    from runner_provisioner.service_ports import ServiceState

_WILD = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - they are looked for, not bound
# As a Host header may hold it: names of other scripts come as "xn--...".
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?")
_NOT_TO_LISTEN = {
    errno.EADDRINUSE: "something listens there already: choose another port",
    errno.EADDRNOTAVAIL: "this machine has no such address: choose one of its own",
    errno.EACCES: "this user may not listen there: choose a port from 1024 on",
    errno.EAFNOSUPPORT: "this machine has no addresses of that kind: choose another",
}


@click.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, metavar="PORT", help="Port.")
@click.option(
    "--allow-host",
    multiple=True,
    metavar="NAME",
    help="Further name that requests may call the service by, without a port; may be repeated.",
)
@click.option(
    "--allow-unauthenticated",
    is_flag=True,
    help="Listen at any address though there are no keys: for a container whose port is published on loopback.",
)
@click.option(
    "--rate-limit",
    type=click.IntRange(0, 1_000_000),
    default=600,
    show_default=True,
    metavar="N",
    help="Requests that each key may send in a minute; 0 for no limit.",
)
@click.option(
    "--max-price",
    type=Price(),
    default=Decimal("25.00"),
    show_default=True,
    metavar="USD",
    help="Most that a pod may cost per hour, whatever a request says.",
)
@click.option("--owner", metavar="TEXT", help="Owner mark of the pods; default: GITHUB_REPOSITORY, else 'manual'.")
@service_options
@narrowable
def command(*, session: Session, **values: Any) -> None:  # noqa: ANN401 - click's options by name
    """Serve three pods APIs over every provider: /api/cloud, /machines and /api/v1/pods.

    Without keys ('keys create') it listens on loopback only. Ends on Ctrl-C or SIGTERM, when what is under way has
    ended.
    """
    _need_extra()
    import anyio  # noqa: PLC0415 - not needed for --help

    _check_names(values["allow_host"])
    _check_price(values["max_price"])
    anyio.run(_serve, session, values)


def _need_extra() -> None:
    for name in ("fastapi", "prometheus_client", "uvicorn"):
        if find_spec(name) is None:
            raise ConfigurationError(f"the service needs the package '{name}': install runner-provisioner[controller]")


def _check_names(names: tuple[str, ...]) -> None:
    for name in names:
        if not _NAME.fullmatch(name) and not _is_address(name):
            raise InvalidRequest(
                f"--allow-host {name!r}: give one name or address without a port, such as gpu.example.org"
            )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name[1:-1] if name.startswith("[") and name.endswith("]") else name)
    except ValueError:
        return False
    return True


def _check_price(most: Decimal) -> None:
    if most < BID_STEP:
        raise InvalidRequest(f"--max-price {most}: nothing can be rented for that: give {BID_STEP} or more")


async def _serve(session: Session, values: dict[str, Any]) -> None:
    from runner_provisioner.clock import SystemClock  # noqa: PLC0415 - beside its one use
    from runner_provisioner.controller.serving import serve  # noqa: PLC0415 - imports everything
    from runner_provisioner.wiring import service_state_of  # noqa: PLC0415 - imports everything

    host, hosts = values["host"], values["allow_host"]
    state = service_state_of(session.settings, SystemClock())
    try:
        closed = await _closed(session, state, values)
        with _listening(host, values["port"]) as listener:
            # Outside of the server, which would make a traceback of what its reader can put right.
            async with _opened(session, state, values, closed=closed) as parts:
                shown = f"[{host}]" if ":" in host else host

                @asynccontextmanager
                async def ready() -> AsyncIterator[Parts]:
                    session.talk(f"serving at http://{shown}:{listener.getsockname()[1]} (docs at /docs)")
                    yield parts

                await serve(ready, listener, hosts=(*hosts, *(() if host in _WILD else (host,))))
    finally:
        await state.aclose()


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises ConfigurationError."""
    from runner_provisioner.controller.serving import listen  # noqa: PLC0415 - imports everything

    try:
        return listen(host, port)
    except (OSError, UnicodeError) as error:
        number = getattr(error, "errno", None) or 0
        why = _NOT_TO_LISTEN.get(number) or f"{os.strerror(number)}: choose another"
        # The resolver has numbers of its own, and what spells names for it has none.
        if isinstance(error, UnicodeError) or isinstance(error.__context__, socket.gaierror):
            why = "no address is known by that name: give an address of this machine"
        raise ConfigurationError(f"--host {host} --port {port}: {why}") from None


async def _closed(session: Session, state: ServiceState, values: dict[str, Any]) -> bool:
    """Whether a key is needed. Raises ConfigurationError where everybody on a network would be let in."""
    keys = any(key.revoked_at is None for key in await state.keys.all())
    if keys:
        return True
    if is_loopback(values["host"]):
        session.warn("no keys: whoever is on this machine may rent and end pods ('keys create' makes one)")
        return False
    if values["allow_unauthenticated"]:
        session.warn("no keys, and --allow-unauthenticated: whoever reaches this port may rent and end pods")
        return False
    raise ConfigurationError(
        f"--host {values['host']}: without keys the service listens on loopback only: make one with 'keys create', or "
        "give --allow-unauthenticated where the port is published on loopback alone"
    )


@asynccontextmanager
async def _opened(
    session: Session, state: ServiceState, values: dict[str, Any], *, closed: bool
) -> AsyncIterator[Parts]:
    from runner_provisioner.cli.program import opened  # noqa: PLC0415 - imports everything
    from runner_provisioner.controller.eventlog import EventLog  # noqa: PLC0415 - likewise
    from runner_provisioner.controller.metrics import MeteredCalls, Metrics  # noqa: PLC0415 - likewise
    from runner_provisioner.controller.serving import Choices, build, looked_after  # noqa: PLC0415 - likewise

    metrics = Metrics()
    choices = Choices(
        owner=values["owner"],
        hosts=tuple(values["allow_host"]),
        closed=closed,
        per_minute=values["rate_limit"],
        max_price=values["max_price"],
    )
    async with (
        opened(session, needs_github=False, metrics=MeteredCalls(metrics), events=EventLog()) as program,
        looked_after(build(program, state, metrics, choices)) as parts,
    ):
        yield parts
