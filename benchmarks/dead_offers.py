"""What twenty offers in a row that nobody has in stock cost a start: their twenty answers, and how little more.

The market lists twenty on-demand offers (ten models in two regions) and has sold everything before the first create
arrives. Each answer takes `ANSWER` seconds, so that the program's default pace of requests is not what is measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.measure import Figure
from runner_provisioner.simulators.faults import Fault, FaultKind
from runner_provisioner.simulators.world import SimulatedWorld, WorldPlan

ROUNDS = 3
OFFERS = 20
ANSWER = 0.12
RATIO_GOAL = 1.5
LIMIT = 60.0
CREATE = "podFindAndDeployOnDemand"
REGIONS = ("US-TX-3", "EU-RO-1")
NO_CAPACITY = 20  # the exit code


@dataclass(frozen=True, kw_only=True)
class Refused:
    """One start that was refused everywhere: `seconds` from the first offer to the last refusal.

    `answers` is how long the program waited for answers to creates in that time.
    """

    seconds: float
    answers: float
    creates: int
    looks: int


def figures(rounds: int = ROUNDS) -> list[Figure]:
    """The time beside that of the answers alone, and the creates."""
    starts = [_start() for _ in range(rounds)]
    middle = sorted(starts, key=lambda one: one.seconds / one.answers)[rounds // 2]
    return [
        Figure(
            name=f"{OFFERS} dead offers, beside their {OFFERS} answers",
            value=middle.seconds / middle.answers,
            goal=RATIO_GOAL,
            unit="x",
            detail=f"median of {rounds}: {middle.seconds:.2f} s for {middle.answers:.2f} s of answers",
        ),
        Figure(
            name=f"creates for {OFFERS} dead offers",
            value=max(one.creates for one in starts),
            goal=OFFERS,
            unit="calls",
            detail="the worst round",
            binding=True,
        ),
        Figure(
            name="looks at the provider meanwhile",
            value=max(one.looks for one in starts),
            goal=2,
            unit="calls",
            detail="after a create that surely rented nothing the next offer needs no new look",
            binding=True,
        ),
    ]


def _start() -> Refused:
    with tempfile.TemporaryDirectory() as folder, SimulatedWorld(Path(folder), plan=WorldPlan()) as world:
        models = [model.id for model in world.runpod.market.catalog.models if not model.mig][: OFFERS // len(REGIONS)]
        world.runpod.faults.add(Fault(operation=CREATE, kind=FaultKind.DELAY, seconds=ANSWER, times=None))
        seller = threading.Thread(target=_sell_out, args=(world, models))
        seller.start()
        done = subprocess.run(
            [sys.executable, "-m", "runner_provisioner", "start", "--json", *_arguments(models)],
            env={**_environment(world), "PATH": os.environ["PATH"], "HOME": folder, "CI": "true"},
            capture_output=True,
            timeout=LIMIT,
            check=False,
        )
        seller.join()
        if done.returncode != NO_CAPACITY:
            raise RuntimeError(f"start ended with {done.returncode}: {done.stderr.decode()}")
        return _measured(json.loads(done.stdout), world)


def _environment(world: SimulatedWorld) -> dict[str, str]:
    return {name: value for name, value in world.environment.items() if "_RATE_" not in name}


def _arguments(models: Sequence[str]) -> list[str]:
    chosen = [word for model in models for word in ("--gpu", model)]
    places = [word for region in REGIONS for word in ("--region", region)]
    return [*chosen, *places, "--interruptible", "never", "--max-price", "10"]


def _sell_out(world: SimulatedWorld, models: Sequence[str]) -> None:
    """Sell everything once the prices have been asked for."""
    limit = time.monotonic() + LIMIT
    while world.runpod.faults.count(CREATE) == 0:
        if time.monotonic() > limit:
            return  # the start has failed and says why
        time.sleep(0.002)
    with world.runpod.lock:
        for model in models:
            world.runpod.market.set_stock(model, 0)


def _measured(result: dict[str, Any], world: SimulatedWorld) -> Refused:
    moments = [datetime.fromisoformat(one["at"]) for one in result["timeline"] if one["event"].startswith("offer_")]
    calls = [one for one in result["calls"] if one["operation"] == CREATE]
    return Refused(
        seconds=(moments[-1] - moments[0]).total_seconds(),
        answers=sum(one["calls"] * one["mean_ms"] for one in calls) / 1000,
        creates=world.runpod.faults.count(CREATE),
        looks=world.runpod.faults.count("myself.pods"),
    )
