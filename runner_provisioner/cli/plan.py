"""`plan`: everything that `start` would do, without spending."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from runner_provisioner.cli.guard import guarded
from runner_provisioner.cli.machines import describe as describe_kept_out
from runner_provisioner.cli.options import request_of, request_options
from runner_provisioner.cli.session import Session, command_options, place_of, place_options, run, run_part, table, usd
from runner_provisioner.domain.durations import show_duration
from runner_provisioner.domain.request import Gate, HowRegistered, StartRequest

if TYPE_CHECKING:
    from runner_provisioner.domain.offers import Offer
    from runner_provisioner.services.foresee import Foreseen, Rung
    from runner_provisioner.wiring import Place, Program


@click.command("plan")
@place_options
@click.option(
    "--key", default="default", show_default=True, metavar="KEY", help="Tells several starts of one run apart."
)
@click.option("--run-id", metavar="RUN", help="The workflow run, or what an earlier local start printed.")
@request_options(StartRequest)
@guarded
@command_options
def command(
    *,
    session: Session,
    repository: str | None,
    organization: str | None,
    owner: str | None,
    key: str,
    run_id: str | None,
    **values: Any,  # noqa: ANN401 - the options of the request
) -> None:
    """Show everything that start would do, without renting anything.

    Takes the options of start: the offers in the order they would be tried with what a useful hour of each costs, why
    the others are not, the permissions, what is left of a budget, and when the runner is to be expected. Exits with the
    code that start would end with before it rents.
    """
    request: StartRequest = request_of(StartRequest, values)
    session.providers = request.provider
    place = place_of(session, repository, organization, owner)
    part = run_part(run_id, session.settings)
    run(lambda: _plan(session, place, request, _name(place, part, key)))


def _name(place: Place, part: tuple[str, int] | None, key: str) -> str | None:
    """The name that pod and runner would have; None where start makes one up."""
    from runner_provisioner.domain.names import RunKey  # noqa: PLC0415 - keeps --help quick

    checked = RunKey(owner8=place.owner8, run=part[0] if part else "local", attempt=part[1] if part else 0, key=key)
    return checked.name if part else None


async def _plan(session: Session, place: Place, request: StartRequest, name: str | None) -> None:
    from runner_provisioner.cli.program import opened  # noqa: PLC0415 - imports everything
    from runner_provisioner.wiring import lease_of  # noqa: PLC0415 - imports everything

    async with opened(session, place=place, runner_group=request.runner_group) as program:
        budget = request.budgets(day=program.settings.budget_day, month=program.settings.budget_month)
        lease = lease_of(program, name) if name is not None else None
        found = await program.foresight().run(
            request.gpus,
            request.terms,
            budget,
            owner8=place.owner8,
            lease=lease,
            accept_no_kill_time=request.accept_no_kill_time,
        )
        if request.gate is Gate.OFF:
            found = replace(found, kept_out=())
        calls = would_call(program, found, request)
        session.show(_data(found, calls, name), lines=_lines(found, calls, name))
        if found.failure is not None:
            raise found.failure


def would_call(program: Program, found: Foreseen, request: StartRequest) -> list[dict[str, str]]:
    """What start would send, and how often; `change` is what alters something at the service."""
    booting, running = program.polls.booting, program.polls.running
    providers = sorted({rung.offer.provider for rung in found.rungs})
    paid = providers if found.left else []
    rows = [
        ("github", "prove the right to register", "change", "once"),
        *_registering(request, running),
        ("github", "address of the runner's program", "read", "once"),
        *(
            (name, "offers and prices", "read", f"once for each of {len(request.region) or 1} places")
            for name in providers
        ),
        *((name, "list the pods, for the budget", "read", "before the first create, and once online") for name in paid),
        *((name, "create", "change", f"up to {_count(found, name)} times, until one is rented") for name in providers),
        *((name, "list the pods, read ours", "read", f"every {booting:g} s until online") for name in providers),
        ("github", "look for the runner", "read", f"every {running:g} to {booting:g} s until online"),
        *((name, "terminate", "change", "for each pod that never serves") for name in providers),
    ]
    return [dict(zip(("service", "operation", "kind", "times"), row, strict=True)) for row in rows]


def _registering(request: StartRequest, seconds: float) -> list[tuple[str, str, str, str]]:
    if request.registration is HowRegistered.TOKEN:
        return [("github", "get a registration token", "change", "once")]
    return [
        ("ssh", "ask the pod whether it waits for its configuration", "read", f"every {seconds:g} s until online"),
        ("github", "make the runner's configuration", "change", "once the pod waits for it"),
        ("ssh", "hand the configuration over", "change", "once the pod waits for it"),
    ]


def _count(found: Foreseen, provider: str) -> int:
    return sum(rung.offer.provider == provider for rung in found.rungs)


def _data(found: Foreseen, calls: list[dict[str, str]], name: str | None) -> dict[str, Any]:
    return {
        "name": name,
        "kept-pod": found.kept.id if found.kept is not None else None,
        "offers": [_of_rung(rung) for rung in found.rungs],
        "skipped": [{**_of_offer(one.offer), "reason": str(one.error)} for one in found.refusals],
        "permissions": [
            {"name": one.name, "granted": one.error is None, "detail": str(one.error or one.detail)}
            for one in found.permissions
        ],
        "budget": [
            {"span": one.span.value, "budget": str(one.budget), "left": str(one.amount), "by": one.by}
            for one in found.left
        ],
        "passed-over": [{"provider": name, "reason": str(error)} for name, error in found.passed_over.items()],
        "kept-out": [describe_kept_out(one) for one in found.kept_out],
        "ready-after-seconds": found.ready.total_seconds() if found.ready is not None else None,
        "would-call": calls,
    }


def _of_offer(offer: Offer) -> dict[str, Any]:
    return {
        "provider": offer.provider,
        "gpu": offer.gpu_model,
        "count": offer.gpu_count,
        "interruptible": offer.interruptible,
        "region": offer.region,
        "price-per-hour": str(offer.price) if offer.price else None,
    }


def _of_rung(rung: Rung) -> dict[str, Any]:
    return {
        **_of_offer(rung.offer),
        "raises": rung.offer.raises,
        "effective-price-per-hour": str(rung.outlook.effective),
        "boot-seconds": rung.outlook.boot.total_seconds(),
        "interruptions-per-hour": round(rung.outlook.interruptions_per_hour, 4),
        "lifetime-seconds": rung.lifetime.total_seconds(),
        "worst-cost": str(rung.worst),
    }


def _lines(found: Foreseen, calls: list[dict[str, str]], name: str | None) -> list[str]:
    lines = [f"pod and runner: {name or 'a name of its own'}"]
    if found.kept is not None:
        lines.append(f"pod {found.kept.id} of an earlier start is there: start would go on with it and rent none")
    lines += ["", "offers, in the order they would be tried:"]
    lines += table(("offer", "useful hour", "boot", "lifetime", "costs at most"), [_row(one) for one in found.rungs])
    if found.refusals:
        lines += ["", "not tried:", *(f"  {_said(one.offer)}: {one.error}" for one in found.refusals)]
    lines += [f"passed over: {name}: {error}" for name, error in found.passed_over.items()]
    lines += ["", "permissions:"]
    lines += [f"  {one.name}: {one.error or _granted(one.detail)}" for one in found.permissions]
    lines += [f"budget: {one}" for one in found.left]
    lines += [f"kept out: machine {one}" for one in found.kept_out]
    if found.ready is not None:
        lines += ["", f"runner expected {show_duration(found.ready)} after the first create, if that offer is taken"]
    lines += ["", "calls:", *(f"  {one['service']}: {one['operation']} ({one['times']})" for one in calls)]
    return lines


def _granted(detail: str) -> str:
    return f"yes, {detail}" if detail else "yes"


def _said(offer: Offer) -> str:
    return str(offer) if offer.price else f"{offer.gpu_count} x {offer.gpu_model}"


def _row(rung: Rung) -> tuple[object, ...]:
    outlook = rung.outlook
    shown = (usd(outlook.effective), show_duration(outlook.boot), show_duration(rung.lifetime), usd(rung.worst))
    return (str(rung.offer), *shown)
