"""`stop`: end what a start of this run made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runner_provisioner.cli.inputs import in_action, with_inputs
from runner_provisioner.cli.session import (
    Session,
    attempt_of,
    command_options,
    narrowable,
    place_of,
    place_options,
    run,
    run_part,
    table,
)
from runner_provisioner.cli.spending import Jobs, Rate, only_pod, rate_of, spent
from runner_provisioner.errors import InvalidRequest, LeftBehind, RemoteError, StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from runner_provisioner.domain.costs import JobCosts
    from runner_provisioner.domain.history import PodRecord
    from runner_provisioner.domain.interruptions import Interruption
    from runner_provisioner.domain.names import RunKey
    from runner_provisioner.domain.pods import Pod
    from runner_provisioner.services.ending import Ended
    from runner_provisioner.storage.state_file import Record
    from runner_provisioner.wiring import Place, Program


@click.command("stop")
@place_options
@click.option("--key", default="default", show_default=True, metavar="KEY", help="The key of the start.")
@click.option("--run-id", metavar="RUN", help="The workflow run, or what a local start printed.")
@click.option(
    "--attempt",
    type=click.IntRange(1, 10_000),
    metavar="N",
    help="Up to which attempt of --run-id; default: now's, or all of another run.",
)
@click.option("--all", "every_attempt", is_flag=True, help="End this key in every attempt of the run.")
@click.option(
    "--own", is_flag=True, help="End only what an unfinished start left whose state file is here; nothing without one."
)
@click.option("--price-per-hour", metavar="USD", help="What start said, to tell the cost.")
@click.option("--started-at", metavar="TIME", help="What start said, to tell the cost.")
@command_options
@narrowable
def command(  # noqa: PLR0913 - one for each option
    *,
    session: Session,
    repository: str | None,
    organization: str | None,
    owner: str | None,
    key: str,
    run_id: str | None,
    attempt: int | None,
    every_attempt: bool,
    own: bool,
    price_per_hour: str | None,
    started_at: str | None,
) -> None:
    """End a run's pod and runner, in all attempts up to the current one, and look that they are gone.

    Cancel the run first if it is not over: GitHub keeps a runner that works, and fails its job some ten minutes later.
    """
    from runner_provisioner.domain.names import RunKey  # noqa: PLC0415 - keeps --help quick

    part = run_part(run_id, session.settings)
    if part is None:
        raise InvalidRequest("which run? give --run-id with what start printed; in a workflow it is known")
    place = place_of(session, repository, organization, owner)
    run_key = RunKey(owner8=place.owner8, run=part[0], attempt=attempt_of(attempt, part[1]), key=key)
    elsewhere = run_id is not None and part[1] > 0 and session.settings.run_id != run_key.run_id
    every_attempt = every_attempt or (elsewhere and attempt is None)
    if own:
        run(lambda: _settle(session, place, run_key))
        return
    rate, faults = rate_of(price_per_hour, started_at)
    run(lambda: _stop(session, place, run_key, rate, every_attempt=every_attempt))
    # Only now: no word about money may keep anything from being ended.
    for fault in faults:
        session.warn(with_inputs(fault, command) if in_action() else fault)


async def _settle(session: Session, place: Place, key: RunKey) -> None:
    """End what an unfinished start of this key made; a pod of the same name that another start made is left alone."""
    from runner_provisioner.cli.program import opened  # noqa: PLC0415 - imports everything
    from runner_provisioner.cli.repeating import settle  # noqa: PLC0415 - imports everything
    from runner_provisioner.storage.state_file import StateFile  # noqa: PLC0415 - keeps --help quick

    store = StateFile(session.settings.state_dir / f"{key.name}.json", creator="")
    try:
        record = store.read()
    except StoreError:
        # What it would have told is lost: ending too much of this run is better than paying for what is left.
        await _stop(session, place, key, Rate(price=None, since=None), every_attempt=False, settling=True)
        raise
    before = StateFile(store.path.with_suffix(".before"), creator="").read()
    if record is None or not _began(record, before):
        session.show({"ended": [], "timeline": []}, lines=["this start has left nothing here"])
        return
    async with opened(session, place=place) as program:
        ended = await settle(program, store.path, key)
        await _tell(session, program, place, key, Rate(), ended)


def _began(record: Record, before: Record | None) -> bool:
    """Whether the last start may have rented something: `before` is what earlier starts of its key had written."""
    if before is None or before.nonce != record.nonce:
        return True
    later = [made for creator, made in record.creators.items() if creator not in before.creators]
    return any(one.made or one.unsure for one in later)


async def _stop(
    session: Session, place: Place, key: RunKey, rate: Rate, *, every_attempt: bool, settling: bool = False
) -> None:
    """End the key and see that it stays so; `settling` is after a start of this place that is surely over."""
    from runner_provisioner.cli.bookkeeping import keyless  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.cli.interruption import found_by_stop, keep, remember  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.cli.program import opened  # noqa: PLC0415 - imports everything
    from runner_provisioner.storage.state_file import Forgetting  # noqa: PLC0415 - keeps --help quick

    async with opened(session, place=place) as program:
        trouble: StoreError | None = None
        if settling:
            ended = await program.ending().stop(key, every_attempt=every_attempt)
        else:
            since, store = program.clock.now(), Forgetting(session.settings.state_dir)
            ended = await program.ending(store).stop(key, every_attempt=every_attempt)
            if key.run_id is None or key.run_id != session.settings.run_id:
                # In its own run a stop stands behind its start.
                ended = await program.outlast().run(ended, since=since, told=store.forgotten)
            trouble = store.trouble
        left = await keyless(session, program, {one.name: one.at for one in ended}, [one.name for one in ended])
        interruption = await found_by_stop(program, place, key, ended)
        if interruption is not None:
            keep(session, key, interruption)
            await remember(program, interruption)
        await _tell(session, program, place, key, rate, ended, interruption)
        if left:
            remedy = "stop again without" if session.providers else "set it, and stop again"
            raise LeftBehind(f"may be still there: {'; '.join(left)}: {remedy}", what=tuple(left))
        if not session.settings.in_actions and not any(_found(session, one) for one in ended):
            session.talk(await _hint(program, place))
        if trouble is not None:
            raise trouble  # last: what was ended, and why, is told and noted first


async def _hint(program: Program, place: Place) -> str:
    """Where somebody looks whose stop found nothing."""
    hint = "'status' shows what there is"
    try:
        pods = [pod for one in program.providers.values() for pod in await one.list(place.owner8)]
    except RemoteError:
        return hint
    names = sorted({pod.name for pod in pods if pod.alive})
    return f"{hint}; pods that live: {', '.join(names)}" if names else f"{hint}; no pod of this owner lives"


def _found(session: Session, one: Ended) -> bool:
    """Whether there was a pod or a runner of that name."""
    removed = ("runner_removed", one.name)
    return bool(one.pods) or any((event["event"], event.get("runner")) == removed for event in session.timeline)


def _line(session: Session, one: Ended) -> str:
    if one.at not in {None, *session.asked}:
        pods = f" (ended pod {', '.join(one.pods)})" if one.pods else ""
        return f"{one.name}: its pod may be at {one.at}, where nobody looked{pods}"
    if one.ghost:
        pods = f"ended pod {', '.join(one.pods)}" if one.pods else "no pod left"
        return (
            f"{one.name}: {pods}, nothing bills; GitHub takes its runner for busy for about ten minutes yet, and "
            "'cleanup' removes it then"
        )
    if not _found(session, one):
        # Without a key of the provider that the start rented from it is not looked at.
        return f"found nothing named {one.name} at {' and '.join(session.asked)}"
    return f"{one.name}: nothing left" + (f" (ended pod {', '.join(one.pods)})" if one.pods else "")


async def _tell(
    session: Session,
    program: Program,
    place: Place,
    key: RunKey,
    rate: Rate,
    ended: Sequence[Ended],
    interruption: Interruption | None = None,
) -> None:
    """Note it in the history, and show it with what the key has cost."""
    from runner_provisioner.cli.bookkeeping import book_stop  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.domain.costs import job_of  # noqa: PLC0415 - likewise

    jobs = Jobs(program, place)
    cost = await spent(jobs, key, rate, ended, program.clock.now(), interruption)
    lost = {interruption.name: interruption.at} if interruption is not None else {}
    records = await book_stop(session, program, jobs, ended, lost)
    now = program.clock.now()
    own = [record for record in records if record.name == key.name]
    if cost is None and not _noticed_late(own, interruption, only_pod(key, ended)):
        attempt = job_of(own, key, now)
        cost = attempt.paid.usd if attempt is not None and attempt.settled else None
    _show(session, ended, cost, job_of(records, key, now), interruption)


def _noticed_late(records: Sequence[PodRecord], interruption: Interruption | None, pod: Pod | None) -> bool:
    """Whether the end on record is only when this stop noticed it: the provider has not said when it was."""
    if interruption is None or (pod is not None and pod.stopped_at is not None):
        return False
    return any(one.ended_at is not None and one.ended_at >= interruption.at for one in records)


def _show(
    session: Session,
    ended: Sequence[Ended],
    cost: Decimal | None,
    job: JobCosts | None,
    interruption: Interruption | None,
) -> None:
    from runner_provisioner.cli.costs import breakdown, describe  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.cli.interruption import shown  # noqa: PLC0415 - likewise
    from runner_provisioner.cli.summary import of_stop, publish  # noqa: PLC0415 - likewise

    told = None if cost is None else str(cost)
    data = {
        "ended": [{"name": one.name, "pods": list(one.pods)} for one in ended],
        "cost-usd": told,
        "costs": describe(job) if job is not None else None,
        "interruption": shown(interruption),
        "timeline": session.timeline,
    }
    lines = [_line(session, one) for one in ended]
    if told or any(_found(session, one) for one in ended):
        lines.append(f"cost: {told} USD" if told else "cost: unknown")
    rows = breakdown(job) if job is not None else []
    session.show(data, lines=lines + (table(("of the run's pods", "time", "USD"), rows) if rows else []))
    publish(session, "GPU runner ended", of_stop([(one.name, one.pods) for one in ended], told, rows))
