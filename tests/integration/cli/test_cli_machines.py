"""`machines`: what keeps a machine out is shown, and can be cleared."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import anyio

from runner_provisioner.clock import SystemClock
from runner_provisioner.domain.history import BadMachine
from runner_provisioner.errors import InvalidRequest
from runner_provisioner.storage.history import HistoryFile

if TYPE_CHECKING:
    from integration.cli.conftest import Services

NOTHING = {"RUNPOD_API_KEY": "", "GITHUB_TOKEN": "", "RUNPOD_API_URL": "", "GITHUB_API_URL": ""}


def fail(services: Services, *machines: str, hours: int = 3) -> None:
    """Two failures of each, each in an hour of its own, the last one now."""
    path = services.folder / ".local" / "state" / "runner-provisioner" / "history.sqlite3"

    async def write() -> None:
        history = HistoryFile(path, clock=SystemClock())
        for number, machine in enumerate(machines):
            for age in (0, hours * len(machines)):
                at = datetime.now(UTC) - timedelta(hours=age + 1.5 * number)
                await history.bad(BadMachine(provider="runpod", machine=machine, at=at, reason="it ended itself"))
        await history.aclose()

    anyio.run(write)


def test_machines_are_shown_and_forgotten(services: Services) -> None:
    """Without network and credentials."""
    assert services.run("machines", **NOTHING).out == "no machine is kept out\n"
    fail(services, "m1", "m2")
    shown = services.run("machines", **NOTHING)
    assert shown.code == 0, shown.err
    head, first, second = shown.out.splitlines()
    assert head.split() == ["machine", "provider", "until", "failures", "reason"]
    assert (first.split()[:2], second.split()[:2]) == (["m1", "runpod"], ["m2", "runpod"])
    found = services.run("machines", "--json", "--forget", "m1").data
    assert found["forgotten"] == 1
    (left,) = found["kept-out"]
    assert (left["provider"], left["machine"], left["failures"]) == ("runpod", "m2", 2)
    assert left["reason"] == "it ended itself"
    assert datetime.fromisoformat(left["until"]) > datetime.now(UTC)
    unknown = services.run("machines", "--forget", "m1")
    assert (unknown.code, "no failure of machine m1" in unknown.err) == (0, True)
    assert services.run("machines", "--forget-all").out == "forgotten: 1\nno machine is kept out\n"
    assert services.runpod.calls == []


def test_a_plan_says_which_machines_are_kept_out(services: Services) -> None:
    """In words and as data; not where the gate is off."""
    fail(services, "m1")
    options = ("plan", "--repository", "octo/hello")
    assert "kept out: machine m1 at runpod until" in services.run(*options).out
    assert [one["machine"] for one in services.run(*options, "--json").data["kept-out"]] == ["m1"]
    assert services.run(*options, "--json", "--gate", "off").data["kept-out"] == []


def test_contradictions_are_refused(services: Services) -> None:
    """Both ways to forget; and a history that is off."""
    both = services.run("machines", "--forget", "m1", "--forget-all")
    off = services.run("machines", RUNNER_PROVISIONER_HISTORY="off")
    assert (both.code, off.code) == (InvalidRequest.exit_code, InvalidRequest.exit_code)
    assert "--forget-all" in both.err
    assert "RUNNER_PROVISIONER_HISTORY is off" in off.err
