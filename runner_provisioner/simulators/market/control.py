"""`/_sim/`: what a test in another process sees of a simulated market and does to it.

Only loopback may ask. Bodies are JSON. `GET state`, `GET log/POD`; `POST faults` (a fault's fields, or `row` with the
name and arguments of a ready-made one), `DELETE faults`, `POST release`; `POST interrupt` (`pod_id`, `after`; without
`pod_id` the next new pod), `POST finish` (`pod_id`, `code`), `POST market` (`balance`, `list_lag`, `settings` by name,
with `progress` as its fields, and what each market adds), `POST pods` (a foreign pod).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import fields
from decimal import Decimal, InvalidOperation
from typing import Any

from runner_provisioner.simulators.faults import Fault, FaultKind
from runner_provisioner.simulators.market.settings import Progress, Settings
from runner_provisioner.simulators.market.simulator import MarketSimulator
from runner_provisioner.simulators.serving import Receive, Scope, Send, answer, answer_json, read_body

_LOOPBACK = frozenset({"127.0.0.1", "::1", "testclient"})
_PREFIX = "/_sim/"
_FAULT_FIELDS = frozenset({"operation", "kind", "status", "body", "headers", "skip", "times", "seconds"})

Row = dict[str, Any]


class Control(ABC):
    """The control interface of one simulator."""

    def __init__(self, simulator: MarketSimulator[Any], rows: Mapping[str, Callable[..., Fault]]) -> None:
        """`rows` are the ready-made faults by name."""
        self._simulator = simulator
        self._rows = rows
        self._ordered: list[Fault] = []
        self._verbs: dict[tuple[str, str], Callable[[Row], object]] = {
            ("GET", "state"): lambda _given: simulator.state(),
            ("POST", "faults"): self._order,
            ("DELETE", "faults"): lambda _given: simulator.faults.clear(),
            ("POST", "release"): self._release,
            ("POST", "interrupt"): self._interrupt,
            ("POST", "finish"): lambda given: simulator.finish(given["pod_id"], given.get("code", 0)),
            ("POST", "market"): self.change_market,
            ("POST", "pods"): self.add_pod,
        }

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        client = scope.get("client")
        if client is not None and client[0] not in _LOOPBACK:
            await answer_json(send, 403, {"error": "only for this machine"})
            return
        name = scope["path"].removeprefix(_PREFIX)
        if scope["method"] == "GET" and name.startswith("log/"):
            await answer(send, 200, self._simulator.log(name[4:]), {"content-type": "text/plain"})
            return
        verb = self._verbs.get((scope["method"], name))
        if verb is None:
            await answer_json(send, 404, {"error": f"no {scope['method']} {name}"})
            return
        await self._do(verb, await read_body(receive), send)

    async def _do(self, verb: Callable[[Row], object], body: bytes, send: Send) -> None:
        try:
            result = verb(json.loads(body) if body else {})
        except (KeyError, TypeError, ValueError, InvalidOperation) as error:
            await answer_json(send, 400, {"error": repr(error)})
            return
        await answer_json(send, 200, {} if result is None else result)

    def _order(self, given: Row) -> Row:
        row = given.pop("row", None)
        if row is not None:
            fault = self._rows[row](**given)
        else:
            unknown = given.keys() - _FAULT_FIELDS
            if unknown:
                raise KeyError(*unknown)
            fault = Fault(**{**given, "kind": FaultKind(given["kind"])})
        self._ordered.append(self._simulator.faults.add(fault))
        return {"fault": len(self._ordered) - 1}

    def _release(self, given: Row) -> Row:
        """Let go of one held fault (`fault`, its number), or of all; tells which were reached."""
        chosen = self._ordered if given.get("fault") is None else [self._ordered[given["fault"]]]
        reached = [fault.reached.is_set() for fault in chosen]
        if not given.get("look"):
            for fault in chosen:
                fault.release.set()
        return {"reached": reached}

    def _interrupt(self, given: Row) -> None:
        after = float(given.get("after", 0))
        if given.get("pod_id"):
            self._simulator.interrupt(given["pod_id"], after=after)
        else:
            self._simulator.interrupt_new(after=after, times=given.get("times", 1))

    def change_market(self, given: Row) -> None:
        """Anything of the market, the account and the settings."""
        settings = self._simulator.fleet.settings
        with self._simulator.lock:
            if "list_lag" in given:
                settings.list_lag = float(given["list_lag"])
            if "balance" in given:
                self._simulator.set_balance(Decimal(str(given["balance"])))
            for name, value in given.get("settings", {}).items():
                _set(settings, name, value)

    @abstractmethod
    def add_pod(self, given: Row) -> Row:
        """A pod that somebody else made; tells its `id`."""


def _set(settings: Settings, name: str, value: Any) -> None:  # noqa: ANN401 - JSON
    """Change one setting to a value of its kind; KeyError, TypeError, ValueError."""
    if name not in {each.name for each in fields(settings)}:
        raise KeyError(name)
    now = getattr(settings, name)
    if isinstance(now, Progress):
        settings.progress = Progress(**value)
    elif now is None:
        setattr(settings, name, value)
    else:
        setattr(settings, name, type(now)(value))
