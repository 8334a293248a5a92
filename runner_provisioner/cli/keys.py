"""`keys`: who may use the HTTP service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from runner_provisioner.cli.options import Duration, Price
from runner_provisioner.cli.session import SHOWN_HERE, Session, command_options, redactor, run, table, usd, when
from runner_provisioner.domain.api_keys import Permission
from runner_provisioner.domain.durations import show_duration

if TYPE_CHECKING:
    from runner_provisioner.domain.api_keys import ApiKey
    from runner_provisioner.domain.served import AuditEntry
    from runner_provisioner.ports import Clock
    from runner_provisioner.service_ports import ServiceState
    from runner_provisioner.services.keys import KeyRing

Work = Callable[["ServiceState", "KeyRing", "Clock"], Awaitable[None]]


@click.group("keys")
def command() -> None:
    """Create, list and revoke keys for the HTTP service, and show what was done with them.

    Only a digest of a key is kept. A service that runs notices a new or a revoked key within seconds.
    """


@command.command("create")
@click.option("--name", required=True, metavar="NAME", help="What the key is for; no two keys have the same.")
@click.option(
    "--permission",
    type=click.Choice([one.value for one in Permission], case_sensitive=False),
    default=Permission.READ.value,
    show_default=True,
    help="Whether it may look only, or also create and end pods.",
)
@click.option("--budget", type=Price(), metavar="USD", help="Most that all pods made with it may cost together.")
@click.option("--expires-in", type=Duration(), metavar="TIME", help="How long it is good; default: until revoked.")
@command_options
def create(
    *, session: Session, name: str, permission: str, budget: Decimal | None, expires_in: timedelta | None
) -> None:
    """Make a key and show it, this once.

    Its pods count against its budget with what they may cost at most until they have ended, and with what they have
    cost from then on.
    """

    async def work(_state: ServiceState, ring: KeyRing, clock: Clock) -> None:
        key, plain = await ring.create(name, Permission(permission), lifetime=expires_in, budget=budget)
        # Known as a secret from here on, in Actions as a mask too.
        redactor().add(plain.text)
        session.talk("note: this key is shown once, and nobody can show it again: keep it like a password")
        told = {**describe(key, clock), "key": SHOWN_HERE}
        session.show(told, lines=[SHOWN_HERE], reveals=plain.text)

    _run(session, work)


@command.command("list")
@command_options
def listing(*, session: Session) -> None:
    """Show all keys, also those that are no longer good."""

    async def work(state: ServiceState, ring: KeyRing, clock: Clock) -> None:
        keys = await ring.all()
        spent = {one.id: await state.pods.counted(one.id) for one in keys}
        data = {"keys": [{**describe(one, clock), "spent": usd(spent[one.id])} for one in keys]}
        session.show(data, lines=_table(keys, spent, clock))

    _run(session, work)


@command.command("revoke")
@click.argument("key", metavar="ID_OR_NAME")
@command_options
def revoke(*, session: Session, key: str) -> None:
    """Make a key useless, by its id or its name. Pods that were made with it live on until they are ended."""

    async def work(_state: ServiceState, ring: KeyRing, clock: Clock) -> None:
        revoked = await ring.revoke(key)
        session.show(describe(revoked, clock), lines=[f"revoked {revoked.id} ({revoked.name})"])

    _run(session, work)


@command.command("audit")
@click.option("--since", type=Duration(), default="7d", show_default=True, help="What was done within this time.")
@command_options
def audit(*, session: Session, since: timedelta) -> None:
    """Show the latest writes over HTTP, the oldest first: who, what, on what, and how it ended; 1000 at most.

    Each is there twice, from before it was done and, with its status, from after that.
    """

    async def work(state: ServiceState, _ring: KeyRing, clock: Clock) -> None:
        rows = [_audited(one) for one in await state.audit.entries(clock.now() - since)]
        none = [f"nothing was written over HTTP in the last {show_duration(since)}"]
        session.show({"entries": rows}, lines=table(_AUDITED, [[*one.values()] for one in rows]) if rows else none)

    _run(session, work)


_AUDITED = ("at", "key", "operation", "target", "provider", "status", "error", "client", "request")


def _audited(entry: AuditEntry) -> dict[str, Any]:
    values = (
        when(entry.at),
        entry.key_id,
        entry.operation,
        " ".join(entry.target.split()) or None,
        entry.provider or None,
        entry.status,
        entry.error or None,
        entry.client or None,
        entry.request_id,
    )
    return dict(zip(_AUDITED, values, strict=True))


def describe(key: ApiKey, clock: Clock) -> dict[str, Any]:
    """A key for --json, without its digest."""
    return {
        "id": key.id,
        "name": key.name,
        "permission": key.permission.value,
        "status": key.status(clock.now()).value,
        "budget": usd(key.budget),
        "created-at": when(key.created_at),
        "expires-at": when(key.expires_at),
        "revoked-at": when(key.revoked_at),
    }


def _table(keys: Sequence[ApiKey], spent: dict[str, Decimal], clock: Clock) -> list[str]:
    if not keys:
        return ["no keys: make one with 'keys create'"]
    rows = [
        (
            one.id,
            one.name,
            one.permission.value,
            one.status(clock.now()).value,
            usd(one.budget),
            usd(spent[one.id]),
            when(one.expires_at),
        )
        for one in keys
    ]
    return table(("id", "name", "permission", "status", "budget", "spent", "expires"), rows)


def _run(session: Session, work: Work) -> None:
    async def whole() -> None:
        from runner_provisioner.clock import SystemClock  # noqa: PLC0415 - keeps --help quick
        from runner_provisioner.wiring import key_ring_of, service_state_of  # noqa: PLC0415 - imports everything

        clock = SystemClock()
        state = service_state_of(session.settings, clock)
        try:
            await work(state, key_ring_of(state, clock), clock)
        finally:
            await state.aclose()

    run(whole)
