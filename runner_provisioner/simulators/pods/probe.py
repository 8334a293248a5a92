"""Finds out what this machine allows, by doing it."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import anyio

from runner_provisioner.simulators.pods.confined import ConfinedHost
from runner_provisioner.simulators.pods.host import Image, Launch, PodHost, PodsUnavailable
from runner_provisioner.simulators.pods.seccomp import ARCHITECTURES
from runner_provisioner.simulators.pods.unconfined import UnconfinedHost

SECONDS = 20.0


def choose(scratch: Path, *, unconfined_ok: bool, conceal: Sequence[Path] = ()) -> PodHost:
    """As `host.best_host` promises."""
    scratch.mkdir(parents=True, exist_ok=True)
    reason = unfit()
    for in_memory in () if reason else (False, True):
        host = ConfinedHost(scratch, in_memory=in_memory, conceal=conceal)
        reason = attempt(host)
        if not reason:
            return host
        host.close()
    if unconfined_ok:
        return UnconfinedHost(scratch, reason=reason)
    raise PodsUnavailable(
        f"simulated pods cannot be confined here ({reason}); run as root on Linux with CAP_SYS_ADMIN,"
        " or pass --unconfined if you trust every command of the workflow"
    )


def unfit() -> str:
    """Why it is not even worth trying; empty when it is."""
    if sys.platform != "linux":
        return "only Linux has the namespaces it takes"
    if os.geteuid() != 0:
        return "not root"
    if os.uname().machine not in ARCHITECTURES:
        return f"no system call filter for {os.uname().machine}"
    return ""


def attempt(host: ConfinedHost) -> str:
    """Start a pod that ends at once; empty when it did, else why not."""
    # In a thread with a loop of its own, so that a caller with a running loop may ask too.
    import concurrent.futures  # noqa: PLC0415 - only a real probe needs it

    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        return executor.submit(anyio.run, _attempt, host).result()


async def _attempt(host: ConfinedHost) -> str:
    with tempfile.TemporaryDirectory() as folder:
        launch = Launch(pod_id="probe", image=Image(name="probe"), argv=("true",), env={}, log=Path(folder, "log"))
        try:
            with anyio.fail_after(SECONDS):
                container = await host.launch(launch)
                status = await container.wait()
        except (PodsUnavailable, TimeoutError, OSError) as error:
            return str(error) or "the pod did not start in time"
        return "" if status == 0 else f"a pod that should have ended with 0 ended with {status}"
