"""What the tests of the action share: a stage of one's own."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.action_stage import ActionStage, SetUpAction
from support.e2e import Stage
from support.e2e_pods import real_host

from runner_provisioner.simulators.pods.host import InertHost
from runner_provisioner.simulators.world import WorldPlan


@pytest.fixture
def set_up_action(unmeasured: None) -> Iterator[SetUpAction]:
    """A function that sets up the stage of this test, with real pods or (`inert`) without processes."""
    with contextlib.ExitStack() as open_now:
        folder = Path(tempfile.mkdtemp(prefix="rp-action-"))
        folder.chmod(0o711)
        open_now.callback(shutil.rmtree, folder, ignore_errors=True)

        def make(
            *, inert: bool = False, boot_seconds: float = 0.2, markets: tuple[str, ...] = ("runpod",)
        ) -> ActionStage:
            host = InertHost() if inert else real_host(folder / "host")
            stage = Stage(folder, host, WorldPlan(boot_seconds=boot_seconds, markets=markets))
            open_now.enter_context(stage.world)
            open_now.callback(stage.close)
            return ActionStage(stage)

        yield make
