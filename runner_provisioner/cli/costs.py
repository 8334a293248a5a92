"""`costs`: what the history says of money."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import click

from runner_provisioner.cli.options import Duration
from runner_provisioner.cli.session import Session, command_options, run, table, when
from runner_provisioner.domain.durations import show_duration
from runner_provisioner.errors import InvalidRequest, UnknownProvider

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime, timedelta
    from decimal import Decimal

    from runner_provisioner.domain.costs import JobCosts, Part, Total
    from runner_provisioner.domain.history import PodRecord

_PARTS = ("boot", "useful", "wasted", "retried", "unknown")


@click.command("costs")
@click.option("--since", type=Duration(), default="30d", show_default=True, help="Pods that lived within this time.")
@click.option("--csv", "as_csv", is_flag=True, help="Print the rows as CSV.")
@click.option(
    "--by",
    type=click.Choice(["job", "day", "gpu"]),
    default="job",
    show_default=True,
    help="One row for each job, day (UTC) or GPU.",
)
@click.option("--provider", multiple=True, metavar="NAME", help="Only pods of this provider; may be repeated.")
@command_options
def command(*, session: Session, provider: tuple[str, ...], since: timedelta, as_csv: bool, by: str) -> None:
    """Show what jobs have cost, and what the money was for: from this installation's own records, asking nobody.

    Times are waiting (nothing was rented), boot, useful, wasted, retried (done again by a later pod) and unknown.
    """
    if as_csv and session.as_json:
        raise InvalidRequest("--csv contradicts --json: remove one of them")
    run(lambda: _costs(session, since, provider, by=by, as_csv=as_csv))


async def _costs(session: Session, since: timedelta, providers: Collection[str], *, by: str, as_csv: bool) -> None:
    from runner_provisioner.clock import SystemClock  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.domain.costs import by_day, by_gpu, end_of, jobs  # noqa: PLC0415 - likewise

    now = SystemClock().now()
    noted = await _records(session, now - since)
    _check_names(providers, {one.provider for one in noted})
    records = [one for one in noted if end_of(one, now) >= now - since and (not providers or one.provider in providers)]
    found = jobs(records, now)
    rows: list[dict[str, Any]]
    if by == "job":
        rows = [describe(one) for one in found]
    else:
        rows = [describe_total(one) for one in (by_day if by == "day" else by_gpu)(records, now)]
    if as_csv:
        session.show({}, lines=_csv(rows))
        return
    data = {
        "since": when(now - since),
        "jobs": [describe(one) for one in found],
        "days": [describe_total(one) for one in by_day(records, now)],
        "gpus": [describe_total(one) for one in by_gpu(records, now)],
        "total": describe_total(_sum(by_gpu(records, now))),
    }
    session.show(data, lines=_lines(data, by) if found else [f"no pod in the last {show_duration(since)}"])


def _check_names(providers: Collection[str], noted: Collection[str]) -> None:
    """Raise UnknownProvider for one that is neither installed nor in the records."""
    from runner_provisioner.accounts import names, no_such  # noqa: PLC0415 - keeps --help quick

    known = sorted({*names(), *noted}) if providers else []
    for name in providers:
        if name not in known:
            raise UnknownProvider(no_such(name, known))


async def _records(session: Session, since: datetime) -> Sequence[PodRecord]:
    from runner_provisioner.clock import SystemClock  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.wiring import history_of  # noqa: PLC0415 - imports everything

    history = history_of(session.settings, SystemClock())
    if history is None:
        raise InvalidRequest("RUNNER_PROVISIONER_HISTORY is off: nothing is remembered, so no cost is known")
    try:
        return await history.pods(since)
    finally:
        await history.aclose()


def describe(job: JobCosts) -> dict[str, Any]:
    """A job for --json."""
    return {
        "run-id": job.run,
        "key": job.key,
        "name": job.name,
        "repository": job.repository,
        "gpus": list(job.gpus),
        "attempts": job.attempts,
        "pods": job.pods,
        "interruptions": job.interruptions,
        "began-at": when(job.began_at),
        "waiting": {"seconds": _seconds(job.waiting), "usd": "0"},
        **{share.value: _part(part) for share, part in job.parts.items()},
        **_sums(job.paid, job.listed, settled=job.settled),
    }


def describe_total(total: Total) -> dict[str, Any]:
    """A day or a GPU for --json."""
    return {"what": total.what, "pods": total.pods, **_sums(total.paid, total.listed, settled=total.settled)}


def breakdown(job: JobCosts) -> list[tuple[str, str, str]]:
    """What the time and the money of a job were for: rows of name, time, USD."""
    waiting = show_duration(job.waiting) if job.waiting is not None else "unknown"
    rows = [("waiting", waiting, "0")]
    rows += [
        (share.value, show_duration(part.time), f"{part.usd:f}")
        for share, part in job.parts.items()
        if part.time or share.value != "unknown"
    ]
    paid = job.paid
    rows.append(("paid" if job.settled else "paid, at most", show_duration(paid.time), f"{paid.usd:f}"))
    return [*rows, ("at list price", show_duration(paid.time), f"{job.listed:f}")]


def _seconds(time: timedelta | None) -> float | None:
    return round(time.total_seconds(), 3) if time is not None else None


def _part(part: Part) -> dict[str, Any]:
    return {"seconds": _seconds(part.time), "usd": f"{part.usd:f}"}


def _sums(paid: Part, listed: Decimal, *, settled: bool) -> dict[str, Any]:
    return {
        "billed-seconds": _seconds(paid.time),
        "cost-usd": f"{paid.usd:f}",
        "list-usd": f"{listed:f}",
        "settled": settled,
    }


def _sum(totals: Iterable[Total]) -> Total:
    from decimal import Decimal  # noqa: PLC0415 - beside its one use

    from runner_provisioner.domain.costs import Part, Total  # noqa: PLC0415 - keeps --help quick

    found = list(totals)
    return Total(
        what="all",
        pods=sum(one.pods for one in found),
        paid=sum((one.paid for one in found), Part()),
        listed=sum((one.listed for one in found), Decimal(0)),
        settled=all(one.settled for one in found),
    )


def _lines(data: dict[str, Any], by: str) -> list[str]:
    sections = {
        "job": (("run", "key", "GPU", "pods", "waiting", *_PARTS, "USD", "list"), map(_job_row, data["jobs"])),
        "day": (("day", "pods", "time", "USD", "list"), map(_total_row, data["days"])),
        "gpu": (("GPU", "pods", "time", "USD", "list"), map(_total_row, data["gpus"])),
    }
    lines = table(sections[by][0], list(sections[by][1]))
    if by == "job":
        for other in ("day", "gpu"):
            lines += ["", *table(sections[other][0], list(sections[other][1]))]
    return [*lines, "", *table(("", "pods", "time", "USD", "list"), [_total_row(data["total"])])]


def _job_row(job: dict[str, Any]) -> tuple[object, ...]:
    times = [job[name]["seconds"] for name in ("waiting", *_PARTS)]
    shown = ["unknown" if one is None else _shown(one) for one in times]
    return (job["run-id"], job["key"], ", ".join(job["gpus"]), job["pods"], *shown, *_money(job))


def _total_row(total: dict[str, Any]) -> tuple[object, ...]:
    return (total["what"], total["pods"], _shown(total["billed-seconds"]), *_money(total))


def _money(row: dict[str, Any]) -> tuple[str, str]:
    return (row["cost-usd"] if row["settled"] else f"at most {row['cost-usd']}", row["list-usd"])


def _shown(seconds: float) -> str:
    from datetime import timedelta  # noqa: PLC0415 - beside its one use

    return show_duration(timedelta(seconds=seconds))


def _csv(rows: Sequence[dict[str, Any]]) -> list[str]:
    flat = [dict(_flat(row)) for row in rows]
    text = io.StringIO()
    if flat:
        writer = csv.DictWriter(text, list(flat[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)
    return text.getvalue().splitlines()


def _flat(row: dict[str, Any]) -> Iterable[tuple[str, object]]:
    for name, value in row.items():
        if isinstance(value, dict):
            yield from ((f"{name}-{inner}", one) for inner, one in value.items())
        elif isinstance(value, list):
            yield name, ", ".join(value)
        else:
            yield name, str(value).lower() if isinstance(value, bool) else value
