"""Telling a person what happens: plain lines, and on a terminal one line with the elapsed time and the cost."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from runner_provisioner.domain.durations import show_duration
from runner_provisioner.domain.money import cost

if TYPE_CHECKING:
    from runner_provisioner.cli.session import Session
    from runner_provisioner.domain.events import Event
    from runner_provisioner.ports import Clock

_WORDS = {
    "look_failed": "{service} could not be looked at: {error}: trying again{again}",
    "offer_tried": "trying {offer}",
    "bid_raised": "no stock at the bid before: raising it",
    "budget_left": "{left} of {budget} USD left for this {span} (by {by})",
    "budget_unknown": "budget not checked: {error}",
    "bill_unknown": "the bill of {provider} could not be read, so our records alone count: {error}",
    "budget_incomplete": "the records of what was spent begin on {since}: what was spent before is not counted",
    "history_failed": "the history could not be used, so that what happens may not be remembered: {error}",
    "provider_passed_over": "not renting from {provider}, which could not be asked: {error}",
    "pod_layers": "what ends pod {pod}: {layers}",
    "offer_refused": "  not taken: {error}",
    "create_not_sent": "  not sent, will try again: {error}",
    "create_unanswered": "  no answer to the create ({error}): looking whether a pod exists",
    "pod_rented": "rented pod {pod} at {price} USD/h",
    "lease_booting": "pod {pod} boots",
    "host_key_pinned": "  pod {pod} made its host key itself: trusted at first sight, from now on only this one "
    "({fingerprint})",
    "pod_begun": "started the runner in pod {pod} over SSH",
    "pod_not_begun": "  the runner could not be started over SSH yet: {error}",
    "hand_over_done": "handed the runner's configuration over to pod {pod}",
    "hand_over_failed": "  the runner's configuration could not be handed over yet: {error}",
    "lease_ready": "runner is online",
    "lease_busy": "runner is online and works already",
    "machines_kept_out": "kept out because pods on them ended too soon: {machines} ('machines' lists and clears them)",
    "machine_quarantined": "  machine {machine} is kept out until {until}",
    "machine_not_blamed": "  another machine failed within the hour too: the image or the options may be at fault, so "
    "machine {machine} is not kept out",
    "lease_draining": "giving back ({outcome})",
    "pod_end_asked": "asked {provider} to end pod {pod}",
    "pod_end_failed": "  pod {pod} could not be ended yet: {error}",
    "runner_removed": "removed runner {runner}",
    "runner_removal_failed": "  runner {runner} could not be removed yet: {error}",
    "runner_busy": "  GitHub takes runner {runner} for busy and keeps it: waiting a moment in case its job is just "
    "over (to end a job early, cancel its run first)",
    "start_outlasted": "a start elsewhere may have been waiting for this pod: ending what it rents instead, until "
    "nothing has come for {seconds:.0f} s (saved by cancelling its run first)",
    "give_back_failed": "giving back failed: {error}",
    "give_back_done": "not seen gone yet: {left}; 'stop' or 'cleanup' ends what is left",
}
_SERVICES = {"runpod": "RunPod", "prime": "Prime Intellect", "celium": "Lium", "github": "GitHub"}
_HINT = re.compile(r"[:;] (?:look it up|check the network|try again|wait and try)")
_ERASE = "\r\x1b[2K"


def service_name(service: object) -> str:
    """How a person calls a service."""
    return _SERVICES.get(str(service), str(service or "a service"))


class Progress:
    """An EventSink that talks, and keeps the timeline for --json."""

    def __init__(self, session: Session, clock: Clock, *, before_renting: str | None = None) -> None:
        """`before_renting` is said once, before the first offer is tried."""
        self._session = session
        self._clock = clock
        self._before_renting = before_renting
        self._begin = clock.now()
        self._rented: datetime | None = None
        self._price = Decimal(0)
        self._doing = "asking for offers"
        self._shown = False

    def emit(self, event: Event) -> None:
        """Note it, and say it when there are words for it."""
        self._session.timeline.append({"event": event.name, "at": event.at.isoformat(), **event.fields})
        self._account(event)
        words = _WORDS.get(event.name)
        if words is None or _says_nothing(event):
            return
        text = words.format_map(_Lenient(_told(event)))
        self._doing = text.strip()
        self.clear()
        if event.name == "offer_tried" and self._before_renting:
            self._session.talk(self._before_renting)
            self._before_renting = None
        elapsed = show_duration(event.at - self._begin)
        self._session.talk(f"[{elapsed:>6}] {text}")

    def cost(self) -> Decimal:
        """What the pod has cost up to now, USD."""
        if self._rented is None:
            return Decimal(0)
        return cost(self._price, (self._clock.now() - self._rented).total_seconds())

    def _account(self, event: Event) -> None:
        if event.name == "pod_rented":
            self._rented = event.at
            self._price = Decimal(str(event.fields.get("price") or 0))

    async def tick(self) -> None:
        """Rewrite the last line each second; runs until cancelled, only on a terminal."""
        if not self._session.on_terminal:
            return
        while True:
            self._write(_ERASE + self.line())
            self._shown = True
            await self._clock.sleep(1.0)

    def line(self) -> str:
        """The one line: elapsed time, cost so far, what is being done; no wider than the terminal."""
        elapsed = show_duration(timedelta(seconds=int((self._clock.now() - self._begin).total_seconds())))
        whole = f"  {elapsed}  {self.cost()} USD  {self._doing} ..."
        return whole[: max(20, shutil.get_terminal_size().columns - 1)]

    def clear(self) -> None:
        """Take the rewritten line away."""
        if self._shown:
            self._write(_ERASE)
            self._shown = False

    @staticmethod
    def _write(text: str) -> None:
        # The terminal may have been closed; what is rented matters more.
        with suppress(OSError, ValueError):
            sys.stderr.write(text)
            sys.stderr.flush()


def _told(event: Event) -> Mapping[str, object]:
    """The fields as a person reads them."""
    if event.name not in {"look_failed", "create_unanswered"}:
        return event.fields
    error = _HINT.split(str(event.fields.get("error")))[0]  # what to do about it is being done
    if event.name == "create_unanswered":
        return {**event.fields, "error": error}
    seconds = event.fields.get("patience_seconds")
    again = f" for {show_duration(timedelta(seconds=float(seconds)))}" if seconds else ""
    return {**event.fields, "error": error, "again": again, "service": service_name(event.fields.get("service"))}


def _says_nothing(event: Event) -> bool:
    """Whether a person needs not hear it: nothing was rented, or nothing is left."""
    if event.name == "lease_draining":
        return event.fields.get("outcome") == "no-capacity"
    return event.name == "give_back_done" and not event.fields.get("left")


class _Lenient(dict[str, object]):
    def __init__(self, fields: Mapping[str, object]) -> None:
        super().__init__(fields)

    def __missing__(self, key: str) -> str:
        return "?"
