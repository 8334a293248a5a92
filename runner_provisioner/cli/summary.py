"""The page that a step leaves on its workflow run: Markdown in the file that GITHUB_STEP_SUMMARY names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from runner_provisioner.cli.session import redactor
from runner_provisioner.cli.visible import visible

if TYPE_CHECKING:
    from runner_provisioner.cli.session import Session

LIMIT = 1024 * 1024  # bytes; GitHub shows nothing of a longer page (docs: job summaries)
_CELL = 400
_ROWS = 200
_NOTE = "\n\nThe rest did not fit.\n"
# Words, numbers and signs that Markdown and GitHub leave alone: no markup, address, @name, #1, GH-1, commit, :emoji:.
_PLAIN = re.compile(r"(?:[^\W_]|[ .,:;()+=%/!?'\"…-])*")
_LINKED = re.compile(r"://|\bwww\.|\bGH-\d|\b(?=\d*[a-f])[0-9a-f]{7,64}\b|:[a-z+-][\w+-]*:", re.IGNORECASE)
_BEFORE_PIPE = re.compile(r"\\(?=\|)")
_MOMENTS = {
    "pod_rented": "rented",
    "pod_runs": "booted",
    "lease_ready": "online",
    "lease_busy": "online",
    "lease_draining": "giving back",
    "lease_released": "given back",
}


def escape(text: object) -> str:
    """Any text as one line of a page, shown as it is, at most 400 characters: no markup, no link, nobody mentioned.

    What could be any of these stands in a code span, the one place where GitHub changes nothing (GFM spec, code spans).
    """
    line = visible(" ".join(redactor().redact(str(text)).split()))
    line = line if len(line) <= _CELL else f"{line[: _CELL - 1]}…"
    if _PLAIN.fullmatch(line) and not _LINKED.search(line):
        return line
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    edge = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{edge}{line}{edge}{fence}"


def _cell(text: object) -> str:
    # A table takes an escaped pipe in a code span too, and no escaped backslash before it (GFM spec, tables).
    return _BEFORE_PIPE.sub(r"\\ ", escape(text)).replace("|", r"\|")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table, at most 200 rows of it; nothing for none."""
    found = list(rows)
    if not found:
        return ""
    lines = [head, ["---"] * len(head), *([_cell(cell) for cell in row] for row in found[:_ROWS])]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return text + (f"\nand {len(found) - _ROWS} more\n" if len(found) > _ROWS else "")


def publish(session: Session, title: str, parts: Iterable[str]) -> None:
    """Append a page; outside Actions there is none. That it could not be written is a warning, never a failure."""
    path = session.settings.github_step_summary
    if path is None:
        return
    text = "\n".join([f"### {escape(title)}\n", *(part for part in parts if part)]) + "\n"
    data = text.encode()
    if len(data) > LIMIT:
        data = data[: LIMIT - len(_NOTE)].decode(errors="ignore").encode() + _NOTE.encode()
    try:
        with path.open("ab") as file:
            file.write(data)
    except OSError as error:
        session.warn(f"GITHUB_STEP_SUMMARY ({path}) cannot be written: {error.strerror}")


def of_start(
    outputs: Mapping[str, str] | None, timeline: Sequence[Mapping[str, Any]], failure: str | None
) -> list[str]:
    """What a start did: what came of it, the offers it tried, what happened when."""
    verdict = f"No runner: {escape(failure)}\n" if failure else ""
    names = ("label", "runner-name", "pod-id", "provider", "gpu-type", "price-per-hour", "interruptible", "started-at")
    told = [(name, outputs[name]) for name in names if outputs.get(name)] if outputs else []
    return [
        verdict,
        table(("", "value"), told),
        table(("offer", "result"), offers(timeline)),
        table(("when", "what", "after"), moments(timeline)),
    ]


def offers(timeline: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Each offer that was considered, in order, and what came of it."""
    rows: list[list[str]] = []
    for event in timeline:
        name, offer = event["event"], str(event.get("offer") or "")
        if name == "offer_tried":
            rows.append([offer, "no answer yet"])
        elif name == "offer_skipped":
            rows.append([offer, f"not tried: {event.get('error')}"])
        elif name == "offer_refused":
            if not rows or rows[-1][0] != offer:
                rows.append([offer, ""])
            rows[-1][1] = f"not taken: {event.get('error')}"
        elif name == "create_unanswered" and rows:
            rows[-1][1] = f"no answer: {event.get('error')}"
        elif name == "pod_rented" and rows:
            rows[-1][1] = f"taken: pod {event.get('pod')} at {event.get('price')} USD per hour"
    return [(offer, result) for offer, result in rows]


def moments(timeline: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """When it was requested, rented, booted and online, and the seconds since the request."""
    if not timeline:
        return []
    begin = datetime.fromisoformat(timeline[0]["at"])
    rows: list[tuple[str, str, str]] = []
    for event in timeline:
        what = "requested" if event is timeline[0] else _MOMENTS.get(event["event"])
        if what is None or (rows and rows[-1][1] == what):
            continue
        at = datetime.fromisoformat(event["at"])
        rows.append((f"{at:%H:%M:%S} UTC", what, f"{(at - begin).total_seconds():.0f} s"))
    return rows


def of_stop(
    ended: Sequence[tuple[str, Sequence[str]]], cost: str | None, parts: Iterable[Sequence[object]] = ()
) -> list[str]:
    """What a stop ended, what it had cost, and what the money was for."""
    rows = [(name, ", ".join(pods) or "was gone already") for name, pods in ended]
    told = f"Cost: {f'{escape(cost)} USD' if cost else 'unknown'}\n"
    return [table(("name", "ended pods"), rows), told, table(("of the run's pods", "time", "USD"), parts)]


def of_watch(interruption: Mapping[str, str | None] | None, over: str = "its job is over") -> list[str]:
    """What a watch saw."""
    if interruption is None:
        return [f"{over[0].upper()}{over[1:]}.\n"]
    rows = [(name, value) for name, value in interruption.items() if value]
    return ["The provider took its machine back.\n", table(("", "value"), rows)]


def of_rerun(data: Mapping[str, Any], verdict: str) -> list[str]:
    """Which jobs lost their machines, and what was done about it."""
    lost = [(job["name"], job["label"], job["times"]) for job in data["interrupted"]]
    names = ("runner-name", "gpu-type", "price-per-hour", "interruptible")
    new = [tuple(one[name] for name in names) for one in data["started"]]
    return [f"{escape(verdict)}.\n", table(("lost", "label", "times"), lost), table(names, new)]


def of_cleanup(data: Mapping[str, Any]) -> list[str]:
    """What a clean-up ended (or would), what it left alone, what remains although it should not."""
    head = ("kind", "name", "id", "state", "USD/h", "why")

    def rows(entries: Sequence[Mapping[str, Any]]) -> list[tuple[object, ...]]:
        keys = ("kind", "name", "id", "state", "price-per-hour", "reason")
        return [tuple("-" if entry[key] is None else entry[key] for key in keys) for entry in entries]

    sections = (
        ("Ended", table(head, rows(data["ended"]))),
        ("Would be ended, or left alone" if data["dry-run"] else "Left alone", table(head, rows(data["kept"]))),
        ("Cancelled runs", table(("run", "job", "waited since"), _cancelled(data.get("cancelled", ())))),
        ("Still there", table(("what",), [(line,) for line in data["left"]])),
        ("Could not be looked at", table(("why",), [(line,) for line in data["errors"]])),
    )
    return [f"{name}:\n\n{text}" for name, text in sections if text] or ["Nothing of ours is there.\n"]


def _cancelled(jobs: Sequence[Mapping[str, Any]]) -> list[tuple[object, ...]]:
    return [(job["run-id"], job["job"], job["queued-at"]) for job in jobs]
