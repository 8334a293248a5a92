"""`plan` shows what `start` would do, and rents nothing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from .conftest import Services

MUTATIONS = ("podRentInterruptable", "podFindAndDeployOnDemand", "podTerminate", "podStop", "podResume")


def nothing_changed(services: Services) -> None:
    """No mutation reached the provider, no runner is registered, no state file was written."""
    assert not any(services.runpod.faults.count(name) for name in MUTATIONS)
    assert not services.runpod.pods()
    assert not services.github.runners()
    assert not list(services.folder.rglob("rp-*.json"))


def test_a_plan_shows_everything_and_sends_only_reads(services: Services) -> None:
    """As data: the ladder with effective prices, permissions, the expected time, and the calls of a start."""
    done = services.run("plan", "--json", "--max-price", "0.3", "--max-cost", "0.20")
    assert done.code == 0, done.err
    data: dict[str, Any] = done.data
    first = data["offers"][0]
    assert first["gpu"] == "NVIDIA RTX A4000"
    assert float(first["effective-price-per-hour"]) > float(first["price-per-hour"])
    assert first["lifetime-seconds"] == int(0.20 * 3600 / float(first["price-per-hour"]))
    assert float(first["worst-cost"]) <= 0.2001
    assert data["ready-after-seconds"] == 120
    assert {one["granted"] for one in data["permissions"]} == {True}
    assert any("above the max price" in one["reason"] for one in data["skipped"])
    assert {one["kind"] for one in data["would-call"]} == {"read", "change"}
    nothing_changed(services)


def test_a_plan_can_be_read_by_a_person(services: Services) -> None:
    """One table, and lines."""
    done = services.run("plan", "--gpu", "RTX A4000", "--gpu", "H200 SXM", "--interruptible", "never")
    assert done.code == 0, done.err
    assert "offers, in the order they would be tried:" in done.out
    assert "H200 on-demand at 3.59 USD/h (runpod): 3.59 USD/h is above the max price 1.00" in done.out
    assert "register runners at GitHub: yes" in done.out
    assert "runner expected 2m after the first create" in done.out
    nothing_changed(services)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--max-price", "0.01"), 25, "--max-price"),
        (("--budget-day", "5"), 25, "--budget advisory"),
        (("--max-cost", "0.01"), 25, "--max-cost"),
        (("--region", "XX-NO-1"), 20, "no "),
        (("--bid", "0.02", "--interruptible", "require"), 21, "raise --bid"),
        (("--gpu", "Voodoo 9000"), 7, "Voodoo"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_plan_ends_as_the_start_would(services: Services, arguments: tuple[str, ...], code: int, words: str) -> None:
    """With the same line and code, after what it could find out."""
    done = services.run("plan", *arguments)
    assert done.code == code, done.err
    assert words in done.errors[0]
    assert "permissions:" in done.out
    nothing_changed(services)
    started = services.run("start", *arguments)
    assert (started.code, started.errors) == (done.code, done.errors)
    assert not services.runpod.pods()


def test_an_advisory_budget_lets_a_plan_through(services: Services) -> None:
    """And says that it could not be reckoned."""
    done = services.run("plan", "--budget-day", "5", "--budget", "advisory")
    assert done.code == 0, done.err
    assert "budget not checked" in done.err
    nothing_changed(services)


def test_regions_and_minimum_vram_choose_the_offers(services: Services) -> None:
    """Any model with the memory, in the places that were named; MIG slices are never rented."""
    arguments = ("--min-vram", "48", "--region", "EU-RO-1", "--region", "US", "--max-price", "5", "--cuda", "12.4")
    data = services.run("plan", "--json", *arguments).data
    assert {one["region"] for one in data["offers"]} == {"EU-RO-1", "US"}
    assert {one["gpu"] for one in data["offers"]} >= {"NVIDIA A40", "NVIDIA L40S", "NVIDIA H200"}
    assert not any("A4000" in one["gpu"] or "MIG" in one["gpu"] for one in data["offers"])
    none = services.run("plan", "--json", "--cuda", "13.9")
    assert none.code == 20
    nothing_changed(services)


def test_a_network_volume_decides_where_the_pod_is_rented(services: Services) -> None:
    """Only where it lies; a volume that is not there is named with those that are."""
    lost = services.run("plan", "--network-volume", "vol-unknown")
    assert lost.code == 6
    assert "'vol-unknown'" in lost.errors[0]
    assert "--network-volume" in lost.errors[0]
    with services.runpod.lock:
        made = services.runpod.shelf.create_volume({"name": "data", "size": 20, "dataCenterId": "EU-RO-1"})
    data = services.run("plan", "--json", "--network-volume", made["id"]).data
    assert {one["region"] for one in data["offers"]} == {"EU-RO-1"}
    nothing_changed(services)


def test_a_plan_foresees_what_an_earlier_start_left(services: Services) -> None:
    """Its own pod, which would be gone on with; on another machine, which has no state file of it, the taken key."""
    arguments = ("--run-id", "zz", "--gpu", "RTX A4000")
    services.usher()
    started = services.run("start", "--json", *arguments)
    assert started.code == 0, started.err
    assert services.run("plan", "--json", *arguments).data["kept-pod"] == started.data["pod-id"]
    for file in services.folder.rglob("rp-*.json"):
        file.unlink()
    taken = services.run("plan", *arguments)
    again = services.run("start", *arguments)
    assert (taken.code, taken.errors) == (again.code, again.errors)
    assert "--key" in taken.errors[0]


def test_a_plan_foresees_an_empty_account(services: Services) -> None:
    """With the code that start ends with."""
    services.runpod.set_balance(Decimal("0.05"))
    done = services.run("plan")
    assert (done.code, services.run("start").code) == (22, 22)
    assert "add funds" in done.errors[0]


def test_a_plan_names_the_calls_of_each_way_to_register(services: Services) -> None:
    """A token is got before, a configuration made and handed over when the pod waits for it."""
    told = {}
    for way in ("token", "jit"):
        done = services.run("plan", "--json", "--registration", way)
        told[way] = {(one["service"], one["operation"]) for one in done.data["would-call"]}
    assert told["token"] - told["jit"] == {("github", "get a registration token")}
    assert {service for service, _what in told["jit"] - told["token"]} == {"github", "ssh"}
