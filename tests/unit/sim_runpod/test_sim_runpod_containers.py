"""Pods with processes: what a container is started with, and who hears of its end. The host here is pretended."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner_provisioner.simulators.pods.host import Image, InertHost, Launch
from runner_provisioner.simulators.runpod import Progress, RunPodSimulator, Settings, SimPod
from runner_provisioner.simulators.runpod.command import argv, with_secrets
from runner_provisioner.simulators.runpod.deploy import build_pod, pod_environment
from runner_provisioner.simulators.runpod.market import Wish

A4000 = "NVIDIA RTX A4000"


class PretendedContainer:
    """Remembers how it was ended."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self.over = threading.Event()
        self.code = 0
        self.grace: float | None = None

    def finish(self, code: int) -> None:
        """Its command ends."""
        self.code = code
        self.over.set()

    async def wait(self) -> int:
        """Its status."""
        while not self.over.is_set():  # noqa: ASYNC110 - the event belongs to the test's thread
            await asyncio.sleep(0.005)
        return self.code

    def running(self) -> bool:
        """Whether it was ended."""
        return not self.over.is_set()

    async def stop(self, grace: float = 5.0) -> None:
        """Obeys at once."""
        self.grace = grace
        self.finish(143)

    async def kill(self) -> None:
        """At once."""
        self.finish(137)

    def address(self, port: int) -> tuple[str, int] | None:
        """The port of SSH alone."""
        return ("127.0.0.1", self.launch.ssh_port) if port == 22 and self.launch.ssh_port else None


class PretendedHost:
    """A host whose containers a test ends."""

    mode = "confined"
    note = ""

    def __init__(self, *, offers_ssh: bool = True, broken: str = "") -> None:
        self.offers_ssh = offers_ssh
        self.broken = broken
        self.containers: list[PretendedContainer] = []
        self.discarded: list[str] = []
        self.closed = 0

    async def launch(self, launch: Launch) -> PretendedContainer:
        """A container, or the host's error."""
        if self.broken:
            raise OSError(self.broken)
        container = PretendedContainer(launch)
        self.containers.append(container)
        return container

    def discard(self, pod_id: str) -> None:
        """Remembers it."""
        self.discarded.append(pod_id)

    def close(self) -> None:
        """Counts."""
        self.closed += 1


@pytest.fixture
def host() -> PretendedHost:
    """The host."""
    return PretendedHost()


@pytest.fixture
def live_sim(host: PretendedHost, tmp_path: Path) -> Iterator[RunPodSimulator]:
    """A simulator that starts containers on it."""
    settings = Settings(restart_delay=0.05, interruption_grace=5, terminate_grace=2, public_keys="ssh-ed25519 AAAA me")
    images = [Image(name="tool", entrypoint=("/init",), cmd=("serve",))]
    with RunPodSimulator(host=host, settings=settings, images=images, logs=tmp_path / "logs") as simulator:
        yield simulator


def rent(sim: RunPodSimulator, **given: object) -> SimPod:
    """A pod as a creation makes it."""
    place = sim.market.place(Wish(gpu_type_ids=(A4000,), secure=True))
    fields = {"gpuTypeId": A4000, "imageName": "image", "ports": "22/tcp,80/tcp", **given}
    with sim.lock:
        pod = build_pod(fields, place, spot=False, now=sim.clock.now(), keys=sim.keys)
        sim.fleet.add(pod)
    return pod


def eventually(true: Callable[[], object]) -> None:
    """Wait until it holds, at most five seconds."""
    limit = time.monotonic() + 5
    while not true():
        assert time.monotonic() < limit, "it never happened"
        time.sleep(0.01)


def test_a_pod_runs_its_command_with_runpods_environment(live_sim: RunPodSimulator, host: PretendedHost) -> None:
    """Though nobody looks; ids, own key, ports, the account's SSH keys, secrets filled in."""
    live_sim.settings.secrets["token"] = "s3cret"
    env = [{"key": "A", "value": "{{ RUNPOD_SECRET_token }}"}, {"key": "B", "value": "{{ RUNPOD_SECRET_other }}"}]
    pod = rent(live_sim, dockerArgs="bash -c 'echo hi'", env=env, startSsh=True, volumeMountPath="/workspace")
    eventually(lambda: pod.running_since)
    launch = host.containers[0].launch
    assert (launch.argv, launch.volume_mount, launch.gpu) == (("bash", "-c", "echo hi"), "/workspace", A4000)
    assert launch.log == live_sim.log_path(pod.id)
    expected = {
        "RUNPOD_POD_ID": pod.id,
        "RUNPOD_API_KEY": pod.key,
        "RUNPOD_PUBLIC_IP": "127.0.0.1",
        "RUNPOD_TCP_PORT_22": str(pod.ssh_port),
        "RUNPOD_TCP_PORT_80": "80",
        "RUNPOD_DC_ID": pod.machine.data_center_id,
        "RUNPOD_GPU_COUNT": "1",
        "PUBLIC_KEY": "ssh-ed25519 AAAA me",
        "A": "s3cret",
        "B": "{{ RUNPOD_SECRET_other }}",
    }
    assert expected.items() <= launch.env.items()
    assert live_sim.keys.pods[pod.key] == pod.id
    assert live_sim.mode == "confined"
    assert live_sim.processes() == {pod.id}


def test_a_given_public_key_wins_over_the_accounts(live_sim: RunPodSimulator) -> None:
    """And without `startSsh` the account's is not given."""
    given = rent(live_sim, startSsh=True, env=[{"key": "PUBLIC_KEY", "value": "mine"}])
    assert pod_environment(given, live_sim.settings)["PUBLIC_KEY"] == "mine"
    assert "PUBLIC_KEY" not in pod_environment(rent(live_sim), live_sim.settings)


def test_a_pod_without_a_name_for_port_22_has_no_ssh(live_sim: RunPodSimulator, host: PretendedHost) -> None:
    """Neither has one on a host that offers none."""
    rent(live_sim, ports="80/tcp")
    eventually(lambda: host.containers)
    assert host.containers[0].launch.ssh_port is None
    host.offers_ssh = False
    rent(live_sim)
    eventually(lambda: len(host.containers) == 2)
    assert "RUNPOD_TCP_PORT_22" not in host.containers[1].launch.env


def test_a_command_that_ends_is_started_again(live_sim: RunPodSimulator, host: PretendedHost) -> None:
    """In a new container of the same pod."""
    pod = rent(live_sim, imageName="tool")
    eventually(lambda: pod.running_since)
    host.containers[0].finish(3)
    eventually(lambda: pod.restarts == 1 and pod.running_since)
    assert pod.exit_code == 3
    assert [each.launch.argv for each in host.containers] == [("/init", "serve")] * 2


def test_an_interruption_stops_the_container_after_five_seconds(live_sim: RunPodSimulator, host: PretendedHost) -> None:
    """SIGTERM with that grace, and no restart; the volume stays."""
    pod = rent(live_sim)
    eventually(lambda: pod.running_since)
    live_sim.interrupt(pod.id)
    eventually(lambda: not live_sim.processes())
    assert host.containers[0].grace == 5
    assert live_sim.wait_quiet(1)
    assert (pod.restarts, len(host.containers), host.discarded) == (0, 1, [])


def test_ending_a_pod_stops_its_container_and_discards_its_volume(
    live_sim: RunPodSimulator, host: PretendedHost
) -> None:
    """With the grace of the settings."""
    pod = rent(live_sim)
    eventually(lambda: pod.running_since)
    with live_sim.lock:
        live_sim.fleet.terminate(pod, live_sim.clock.now())
    eventually(lambda: host.discarded == [pod.id])
    assert host.containers[0].grace == 2


def test_a_pod_ended_before_its_container_ran_leaves_nothing(live_sim: RunPodSimulator, host: PretendedHost) -> None:
    """Whatever the order of events in the other thread."""
    pod = rent(live_sim)
    with live_sim.lock:
        live_sim.fleet.catch_up()
        live_sim.fleet.terminate(pod, live_sim.clock.now())
    eventually(lambda: host.discarded == [pod.id])
    assert live_sim.processes() == frozenset()
    assert pod.running_since is None


def test_an_edited_pod_gets_its_new_container_after_the_old_one_ended(
    live_sim: RunPodSimulator, host: PretendedHost
) -> None:
    """The old one's end is no exit of the pod."""
    pod = rent(live_sim)
    eventually(lambda: pod.running_since)
    with live_sim.lock:
        pod.docker_args = "sleep 9"
        live_sim.fleet.edit(pod, live_sim.clock.now())
    eventually(lambda: len(host.containers) == 2)
    assert host.containers[1].launch.argv == ("sleep", "9")
    assert pod.exited_at is None


def test_a_container_that_cannot_be_made_leaves_the_pod_without_runtime(tmp_path: Path) -> None:
    """The reason is in the free text."""
    with RunPodSimulator(host=PretendedHost(broken="no space"), logs=tmp_path) as sim:
        pod = rent(sim)
        eventually(lambda: "no space" in pod.last_status_change)
        assert pod.running_since is None


def test_ssh_is_told_where_the_container_answers(live_sim: RunPodSimulator, host: PretendedHost) -> None:
    """As a public port of this machine; other ports as the host says."""
    pod = rent(live_sim)
    assert live_sim._address(pod.id, 22) is None
    eventually(lambda: pod.running_since)
    assert live_sim._address(pod.id, 22) == ("127.0.0.1", pod.ssh_port)
    assert live_sim._address(pod.id, 80) is None


def test_waiting_for_quiet_has_an_end(live_sim: RunPodSimulator, host: PretendedHost) -> None:
    """False when an ended pod's process is still there; killing at the end takes care of it."""

    class Stubborn(PretendedContainer):
        async def stop(self, grace: float = 5.0) -> None:
            await asyncio.sleep(3600)

    async def launch(launch: Launch) -> PretendedContainer:
        host.containers.append(Stubborn(launch))
        return host.containers[-1]

    host.launch = launch  # type: ignore[method-assign]
    pod = rent(live_sim)
    eventually(lambda: pod.running_since)
    live_sim.interrupt(pod.id)
    assert not live_sim.wait_quiet(0.1)
    live_sim.close()
    assert host.containers[0].code == 137


def test_closing_kills_every_container_and_ends_the_host(live_sim: RunPodSimulator, host: PretendedHost) -> None:
    """Twice is allowed; nothing is started afterwards."""
    pod = rent(live_sim)
    eventually(lambda: pod.running_since)
    live_sim.close()
    live_sim.close()
    assert (host.containers[0].code, host.closed) == (137, 1)
    live_sim.interrupt(pod.id)


def test_logs_go_to_a_folder_of_their_own_that_is_removed() -> None:
    """When none was given."""
    with RunPodSimulator(host=InertHost(), settings=Settings(progress=Progress.timed(0))) as sim:
        pod = rent(sim)
        eventually(lambda: pod.running_since)
        folder = sim.log_path(pod.id).parent
        assert folder.is_dir()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param("", ("/init", "serve"), id="nothing"),
        pytest.param("bash -c 'a b'", ("/init", "bash", "-c", "a b"), id="a command line replaces CMD"),
        pytest.param("it's", ("/init", "it's"), id="a command line with an open quote"),
        pytest.param('{"cmd": ["x y"], "entrypoint": ["sh", "-c"]}', ("sh", "-c", "x y"), id="both"),
        pytest.param('{"cmd": ["x"]}', ("/init", "x"), id="cmd alone"),
        pytest.param('{"entrypoint": ["sh"]}', ("sh", "serve"), id="entrypoint alone"),
        pytest.param('{"cmd": "x"}', ("/init", "serve"), id="cmd that is no list"),
        pytest.param('{"other": 1}', ("/init", "{other:", "1}"), id="JSON of another kind"),
    ],
)
def test_docker_args_replace_what_they_name(given: str, expected: tuple[str, ...]) -> None:
    """A plain string the image's CMD, the JSON form CMD, entrypoint or both."""
    assert argv(given, entrypoint=("/init",), cmd=("serve",)) == expected


def test_secrets_are_filled_in_by_name() -> None:
    """With or without spaces; unknown ones stay as they are."""
    assert with_secrets("a{{RUNPOD_SECRET_x}}b{{ RUNPOD_SECRET_y }}", {"x": "1"}) == "a1b{{ RUNPOD_SECRET_y }}"
