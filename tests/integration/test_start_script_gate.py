"""The gate in the pod, and what the pod tells of itself: real processes, and a machine made to measure."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from support.pod_stand_in import POD_ID, POD_KEY, TOKEN, Pod, World, descendants, pod, script_for, world

from runner_provisioner.bootstrap.render import render_gate
from runner_provisioner.domain.gate import GATE, GateFloor, PodPhase, PodReport
from runner_provisioner.simulators.pods import image
from runner_provisioner.simulators.pods.host import Image, Launch

NOTICE = 5.0  # seconds between SIGTERM and SIGKILL when RunPod takes a pod back (docs.runpod.io, spot)
FLOOR = GateFloor.of(
    model="NVIDIA RTX A4000", count=2, memory_gb=16, driver="550.54", cuda="12.4", disk_gb=4, download_mbps=1
)

pytestmark = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs Linux's /proc")


@pytest.fixture
def remote() -> Iterator[World]:
    """Everybody whom the pod talks to."""
    with world() as state:
        yield state


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """The pod's home."""
    return tmp_path / "pod"


def machine(scratch: Path, *, smi: str | None = "", **has: object) -> str:
    """A PATH on which nvidia-smi tells of these GPUs, or does what `smi` says, or is missing (None)."""
    folder = scratch.parent / "machine"
    folder.mkdir()
    launch = Launch(pod_id="pod", image=Image(name="any"), argv=("true",), env={}, log=Path("log"), gpu_count=2)
    program = folder / "nvidia-smi"
    if smi is not None:
        program.write_text(smi or image.nvidia_smi(Launch(**{**vars(launch), **has})))
        program.chmod(0o755)
    return f"{folder}:/usr/bin:/bin:/usr/sbin:/sbin"


def gated(
    remote: World, scratch: Path, path: str, *, floor: GateFloor = FLOOR, **changes: object
) -> AbstractContextManager[Pod]:
    """A pod with a gate on a machine."""
    script = script_for(remote, gate=floor, **changes)
    return pod(script, scratch, env={"PATH": path, GATE: render_gate(floor)})


def report(scratch: Path) -> PodReport | None:
    """What the pod tells at this moment; a half-written file would be none."""
    file = scratch / f"runner-provisioner-{POD_ID}/report.json"
    if not file.exists():
        return None
    text = file.read_text()
    assert not any(secret in text for secret in (TOKEN, POD_KEY))
    assert file.stat().st_mode & 0o777 == 0o644
    found = PodReport.parse(text)
    assert found is not None, text
    return found


def test_a_machine_as_it_was_rented_serves(remote: World, scratch: Path) -> None:
    """And the pod tells what it found, at every step."""
    remote.job = "wait"
    remote.config = "hang"
    with gated(remote, scratch, machine(scratch, driver="550.54.15", cuda="12.8")) as started:
        started.wait_for(lambda: (found := report(scratch)) and found.phase is PodPhase.REGISTERING)
        found = report(scratch)
    assert found is not None
    assert found.gate is not None
    assert (found.gate.gpu, found.gate.count, found.gate.vram_mib) == ("NVIDIA RTX A4000", 2, 16376)
    assert (found.gate.driver, found.gate.cuda) == ("550.54.15", "12.8")
    assert found.gate.free_gb > 0
    assert found.reason == ""


def test_the_phases_go_on_to_the_end(remote: World, scratch: Path) -> None:
    """Listening, working, ending: with the gate's result still there."""
    remote.job = "wait"
    remote.step = "sleep 600"
    with gated(remote, scratch, machine(scratch), lifetime_seconds=12) as started:
        started.wait_for(lambda: (found := report(scratch)) and found.phase is PodPhase.LISTENING)
        remote.job = "build"
        started.wait_for(lambda: (found := report(scratch)) and found.phase is PodPhase.WORKING)
        started.wait_for(lambda: (found := report(scratch)) and found.phase is PodPhase.ENDING)
        found = report(scratch)
        started.wait_for(remote.ended.is_set)
    assert found is not None
    assert found.reason == "lifetime of 12 s is over"
    assert found.gate is not None


def test_a_bad_host_stays_until_it_was_seen(remote: World, scratch: Path) -> None:
    """A start that never saw its pod run would take the end for a stop from elsewhere."""
    with gated(remote, scratch, machine(scratch, smi=None), linger_seconds=3) as started:
        started.wait_for(lambda: (found := report(scratch)) and found.phase is PodPhase.GATE_FAILED)
        failed = time.monotonic()
        started.wait_for(remote.ended.is_set)
        assert time.monotonic() - failed >= 2.5


@pytest.mark.parametrize(
    ("has", "reason"),
    [
        pytest.param({"smi": None}, "nvidia-smi fails, 0 GPUs instead of 2", id="no-nvidia-smi"),
        pytest.param({"smi": "#!/bin/sh\nexit 9"}, "nvidia-smi fails", id="it-fails"),
        pytest.param(
            {"smi": "#!/bin/sh\necho 'NVIDIA-SMI has failed because \"it\" $(cannot) {communicate}'; exit 9"},
            "nvidia-smi fails, nvidia-smi tells no memory, 0 GPUs instead of 2",
            id="it-complains",
        ),
        pytest.param(
            {"smi": '#!/bin/sh\necho "a[\\$(touch /tmp/rp-pwned)], 550.54, NVIDIA RTX A4000"'},
            "tells no memory",
            id="it-is-hostile",
        ),
        pytest.param({"gpu_count": 1}, "1 GPUs instead of 2", id="one-less"),
        pytest.param({"gpu_count": 3}, "3 GPUs instead of 2", id="one-more"),
        pytest.param({"gpu": "NVIDIA RTX A2000"}, "GPU NVIDIA RTX A2000 instead of RTX A4000", id="other-model"),
        pytest.param({"gpu_memory": 8192}, "8192 MiB of VRAM instead of 14745", id="little-vram"),
        pytest.param({"driver": "535.183.01"}, "driver 535.183.01 instead of 550.54", id="old-driver"),
        pytest.param({"cuda": "12.2"}, "CUDA 12.2 instead of 12.4", id="old-cuda"),
        pytest.param({"cuda": "N/A"}, "CUDA 0 instead of 12.4", id="no-cuda"),
    ],
)
def test_a_bad_host_registers_nothing_and_ends_itself(
    has: dict[str, object], reason: str, remote: World, scratch: Path
) -> None:
    """With the reason in its log and in what it tells."""
    with gated(remote, scratch, machine(scratch, **has)) as started:  # type: ignore[arg-type]
        started.wait_for(remote.ended.is_set)
        found = report(scratch)
        log = started.text()
    assert found is not None
    assert found.phase is PodPhase.GATE_FAILED
    assert reason in found.reason
    assert reason in log
    assert not remote.has("config")
    assert not Path("/tmp/rp-pwned").exists()  # noqa: S108 - where a hostile answer would leave its mark


def test_a_full_disk_is_noticed(remote: World, scratch: Path) -> None:
    """Measured where the job works."""
    floor = GateFloor(free_gb=10**6)
    with gated(remote, scratch, machine(scratch, smi=None), floor=floor) as started:
        started.wait_for(remote.ended.is_set)
        found = report(scratch)
    assert found is not None
    assert found.reason.startswith("gate: ")
    assert "GB of free disk instead of 1000000" in found.reason
    assert not remote.has("config")


def test_a_slow_download_is_noticed(remote: World, scratch: Path) -> None:
    """Measured on the runner's own download; curl gives up where it is slow for long."""
    folder = scratch.parent / "slow"
    folder.mkdir()
    curl = shutil.which("curl", path="/usr/bin:/bin")
    if curl is None:
        pytest.skip("curl is not installed")
    (folder / "curl").write_text(f'#!/bin/bash\ncase " $* " in *.tar.gz*) sleep 2.5 ;; esac\nexec {curl} "$@"\n')
    (folder / "curl").chmod(0o755)
    path = f"{folder}:{machine(scratch)}"
    with gated(remote, scratch, path, floor=GateFloor(download_mbps=100)) as started:
        started.wait_for(remote.ended.is_set)
        found = report(scratch)
    assert found is not None
    assert (found.phase, found.reason) == (PodPhase.GATE_FAILED, "gate: slow download")
    assert not remote.has("config")


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({GATE: ""}, id="missing"),
        pytest.param({GATE: "bm90IGd6aXA="}, id="nonsense"),
        pytest.param({GATE: render_gate(FLOOR)[:-24]}, id="cut-short"),
    ],
)
def test_a_gate_that_did_not_arrive_lets_nothing_pass(given: dict[str, str], remote: World, scratch: Path) -> None:
    """The start command says that there has to be one."""
    with pod(script_for(remote, gate=FLOOR), scratch, env={"PATH": machine(scratch), **given}) as started:
        started.wait_for(remote.ended.is_set)
        found = report(scratch)
    assert found is not None
    assert found.phase is PodPhase.GATE_FAILED
    assert not remote.has("config")


def test_without_a_floor_nothing_is_looked_at(remote: World, scratch: Path) -> None:
    """`--gate off`: also on a machine without any GPU."""
    with gated(remote, scratch, machine(scratch, smi=None), floor=GateFloor()) as started:
        started.wait_for(remote.ended.is_set)
        found = report(scratch)
    assert found is not None
    assert (found.phase, found.reason) == (PodPhase.ENDING, "the runner has ended")
    assert remote.has("step-log")


def test_any_end_before_the_registration_is_told_as_a_failed_gate(remote: World, scratch: Path) -> None:
    """Whoever rented the pod cannot tell them apart either."""
    remote.config = "taken"
    with gated(remote, scratch, machine(scratch), floor=GateFloor()) as started:
        started.wait_for(remote.ended.is_set)
        found = report(scratch)
    assert found is not None
    assert (found.phase, found.reason) == (PodPhase.GATE_FAILED, "not registered")


CHECKPOINT = r"""
bash -c 'save() {
	sleep SECONDS
	exec 3<>/dev/tcp/127.0.0.1/PORT
	printf "POST /told/checkpoint HTTP/1.0\r\nContent-Length: 2\r\n\r\nok" >&3
	cat <&3 >/dev/null
	exit
}
trap save TERM
while :; do sleep 0.05; done' &
exec 3<>/dev/tcp/127.0.0.1/PORT
printf 'POST /told/trains HTTP/1.0\r\nContent-Length: 0\r\n\r\n' >&3
cat <&3 >/dev/null
wait
"""


def interrupt(started: Pod) -> None:
    """Take the pod back as RunPod does: SIGTERM to its first process, SIGKILL to everything five seconds later."""
    begun = time.monotonic()
    everybody = [started.process.pid, *descendants(started.process.pid)]
    os.kill(started.process.pid, signal.SIGTERM)
    while time.monotonic() - begun < NOTICE and started.process.poll() is None:
        time.sleep(0.02)
    for pid in everybody:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


@pytest.mark.parametrize(
    ("seconds", "saved"), [pytest.param(3, True, id="in-time"), pytest.param(9, False, id="too-slow")]
)
def test_a_child_of_a_step_has_the_notice_to_save_its_checkpoint(
    seconds: int, remote: World, scratch: Path, *, saved: bool
) -> None:
    """It hears TERM at once, and nothing of ours ends it before the provider does."""
    remote.step = CHECKPOINT.replace("PORT", str(remote.port)).replace("SECONDS", str(seconds))
    with pod(script_for(remote), scratch) as started:
        started.wait_for(lambda: remote.has("trains"))
        time.sleep(0.3)  # the child sets its trap
        interrupt(started)
        time.sleep(0.2)
        assert remote.has("checkpoint") is saved
        time.sleep(max(0.0, seconds - NOTICE))
        assert remote.has("checkpoint") is saved
    assert not remote.ended.is_set()
