"""What the end-to-end tests share: a stage of one's own."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.e2e import SetUp, Stage
from support.e2e_pods import Act, ActingHost, real_host, why_unconfined

from runner_provisioner.simulators.world import WorldPlan


@pytest.fixture
def set_up(unmeasured: None) -> Iterator[SetUp]:
    """A function that sets up the stage of this test."""
    with contextlib.ExitStack() as open_now:
        # Not pytest's folder, whose long name is too much for sockets and which keeps three rounds of everything.
        folder = Path(tempfile.mkdtemp(prefix="rp-e2e-"))
        folder.chmod(0o711)
        open_now.callback(shutil.rmtree, folder, ignore_errors=True)

        def make(plan: WorldPlan | None = None, *, acts: Sequence[Act] = ()) -> Stage:
            host = ActingHost(host=real_host(folder / "host"), acts=list(acts))
            stage = Stage(folder, host, plan)
            open_now.enter_context(stage.world)
            open_now.callback(stage.close)
            return stage

        yield make


@pytest.fixture
def stage(set_up: SetUp) -> Stage:
    """A stage with the usual world."""
    return set_up()


@pytest.fixture
def confined() -> None:
    """Skip where pods cannot be confined."""
    reason, _ = why_unconfined()
    if reason:
        pytest.skip(f"pods cannot be confined here: {reason}")
