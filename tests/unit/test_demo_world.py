"""The simulated world as a whole, and the two commands around it, as far as no pod has to run."""

from __future__ import annotations

import errno
import io
import json
import os
import socket
import stat
import sys
from pathlib import Path

import anyio
import httpx
import pytest

from runner_provisioner.cli import demo, simulate
from runner_provisioner.errors import ConfigurationError, InvalidRequest, OutputLost
from runner_provisioner.simulators import stands
from runner_provisioner.simulators.celium.simulator import CeliumSimulator
from runner_provisioner.simulators.pods.host import InertHost, PodsUnavailable
from runner_provisioner.simulators.prime.simulator import PrimeSimulator
from runner_provisioner.simulators.world import SimulatedWorld, WorldPlan


def test_the_environment_leads_to_two_services_that_answer(tmp_path: Path) -> None:
    """With credentials that only the owner can read, and everything gone afterwards."""
    with SimulatedWorld(tmp_path) as world:
        env = world.environment
        key = Path(env["GITHUB_APP_PRIVATE_KEY_PATH"])
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
        assert key.read_text("ascii").startswith("-----BEGIN PRIVATE KEY-----\n")
        headers = {"Authorization": f"Bearer {env['RUNPOD_API_KEY']}"}
        answer = httpx.post(env["RUNPOD_API_URL"], json={"query": "{ myself { id } }"}, headers=headers)
        assert answer.status_code == 200
        assert httpx.get(f"{env['GITHUB_API_URL']}/repos/{env['GITHUB_REPOSITORY']}/actions/runners").status_code == 401
        assert world.pods_left() == world.runners_left() == []
        assert world.bill.total == 0
    assert not key.exists()
    with pytest.raises(httpx.ConnectError):
        httpx.get(env["GITHUB_API_URL"])


MARKETS = ("runpod", "prime", "celium")
ASKED = {"RUNPOD_REST_URL": "/pods", "PRIME_API_BASE_URL": "/api/v1/pods", "LIUM_BASE_URL": "/pods"}
KEYS = {"RUNPOD_REST_URL": "RUNPOD_API_KEY", "PRIME_API_BASE_URL": "PRIME_API_KEY", "LIUM_BASE_URL": "CELIUM_API_KEY"}


def test_every_market_answers_at_once_and_is_counted(tmp_path: Path) -> None:
    """Each at an address and with a key of its own; pods, bills and what is left are those of all."""
    with SimulatedWorld(tmp_path, plan=WorldPlan(markets=MARKETS)) as world:
        env = world.environment
        for address, path in ASKED.items():
            key = env[KEYS[address]]
            headers = {"Authorization": f"Bearer {key}", "X-API-KEY": key}
            assert httpx.get(f"{env[address]}{path}", headers=headers).status_code == 200
        assert sorted(world.addresses) == ["celium", "github", "prime", "runpod"]
        assert len(set(world.addresses.values())) == 4
        second = world.runpod.add_pod("rp-1", age=3600)
        third = world.market(PrimeSimulator).add_pod("rp-2", age=1800)
        first = world.market(CeliumSimulator).add_pod("rp-3", age=7200)
        assert world.pods() == [first, second, third]
        assert world.pods_left() == [f"{pod.name} ({pod.id})" for pod in (second, third, first)]
        assert set(world.bill.pods) == {first.id, second.id, third.id}
        with world.runpod.lock:
            world.runpod.fleet.terminate(second, world.clock.now())
        assert world.live() == [third, first]
        world.wait_quiet()


def test_a_market_that_is_not_there_leads_nowhere(tmp_path: Path) -> None:
    """No variable of it is set, and nobody finds its simulator."""
    with SimulatedWorld(tmp_path, plan=WorldPlan(markets=("celium", "celium"))) as world:
        assert [market.name for market in world.markets] == ["celium"]
        assert not [name for name in world.environment if name.startswith(("RUNPOD", "PRIME"))]
        with pytest.raises(LookupError, match="this world has no runpod"):
            _ = world.runpod


def test_runpod_without_graphql_is_a_market_too(tmp_path: Path) -> None:
    """REST v2 answers, GraphQL says that it is gone, and its pods have no kill time."""
    with SimulatedWorld(tmp_path, plan=WorldPlan(markets=("runpod-rest",))) as world:
        env = world.environment
        headers = {"Authorization": f"Bearer {env['RUNPOD_API_KEY']}"}
        assert httpx.get(f"{env['RUNPOD_REST_URL']}/pods", headers=headers).status_code == 200
        asked = httpx.post(env["RUNPOD_API_URL"], json={"query": "{ myself { id } }"}, headers=headers)
        assert asked.status_code == 410
        assert env["RUNPOD_API"] == "rest"
        said: list[str] = []
        assert demo.kill_time_options(world, lambda _who, line: said.append(line)) == ("--accept-no-kill-time",)
        assert said == ["no kill time at runpod: start is given --accept-no-kill-time"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        pytest.param(("runpod", "lium"), "no simulated market 'lium': there are runpod, runpod-rest", id="unknown"),
        pytest.param(("runpod-rest", "runpod"), "one provider: choose one of them", id="one twice"),
        pytest.param((), "without a market: choose of runpod", id="none"),
    ],
)
def test_markets_that_no_world_has_are_refused(names: tuple[str, ...], message: str) -> None:
    """Before anything is opened."""
    with pytest.raises(ConfigurationError, match=message):
        WorldPlan(markets=names)


def test_the_command_line_names_every_market() -> None:
    """Without importing a simulator."""
    assert tuple(stands.MARKETS) == demo.MARKETS


class NoSsh(InertHost):
    """A host without sshd, as unconfined pods are."""

    offers_ssh = False
    note = "pods run unconfined and without sshd"


def test_pods_that_start_over_ssh_need_an_sshd(tmp_path: Path) -> None:
    """Else a demo would wait for them until its boot timeout."""
    with (
        SimulatedWorld(tmp_path / "1", host=NoSsh(), plan=WorldPlan(markets=("celium", "prime"))) as world,
        pytest.raises(PodsUnavailable, match=r"--provider prime: .* without sshd: choose another provider, or"),
    ):
        demo.check_ways_in(world)
    with SimulatedWorld(tmp_path / "2", host=InertHost(), plan=WorldPlan(markets=("prime",))) as world:
        demo.check_ways_in(world)
    with SimulatedWorld(tmp_path / "3", host=NoSsh(), plan=WorldPlan(markets=("runpod", "celium"))) as world:
        demo.check_ways_in(world)
        assert demo.kill_time_options(world, lambda _who, line: pytest.fail(line)) == ()


def test_what_is_left_is_named(tmp_path: Path) -> None:
    """Pods with their ids, and runners."""
    with SimulatedWorld(tmp_path, host=InertHost(), plan=WorldPlan(repository="o/r")) as world:
        pod = world.runpod.add_pod("rp-1")
        world.github.play_runner("o/r", "rp-1")
        assert world.pods_left() == [f"rp-1 ({pod.id})"]
        assert world.runners_left() == ["rp-1"]
        world.wait_quiet()


def test_a_port_that_is_taken_is_said_so_and_nothing_stays_open(tmp_path: Path) -> None:
    """The other service's port is closed again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with socket.create_server(("127.0.0.1", 0)) as probe:
            free = probe.getsockname()[1]
        world = SimulatedWorld(tmp_path, plan=WorldPlan(ports={"runpod": free}, github_port=number))
        with pytest.raises(ConfigurationError, match=f"port {number} of 127.0.0.1 cannot be used"):
            world.__enter__()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{free}/")


async def test_the_simulators_serve_until_they_are_cancelled() -> None:
    """And print what a shell or a program can read."""
    worlds: list[SimulatedWorld] = []
    async with anyio.create_task_group() as group:

        def ready(world: SimulatedWorld) -> None:
            worlds.append(world)
            group.cancel_scope.cancel()

        await simulate.run_simulators(WorldPlan(), inert=True, unconfined=False, ready=ready)
    env = worlds[0].environment
    shell = simulate.environment_text({**env, "X": "a b'c"}, as_json=False)
    assert f"export RUNPOD_API_KEY={env['RUNPOD_API_KEY']}" in shell.splitlines()
    assert "export X='a b'\"'\"'c'" in shell.splitlines()
    assert json.loads(simulate.environment_text(env, as_json=True)) == env


@pytest.mark.parametrize("repository", ["o", "/r", "o/r/x"])
async def test_a_repository_has_an_owner_and_a_name(repository: str) -> None:
    """Anything else is refused."""
    plan = WorldPlan(repository=repository)
    with pytest.raises(ConfigurationError, match="write OWNER/NAME"):
        await simulate.run_simulators(plan, inert=True, unconfined=False, ready=lambda _world: None)


def test_a_checkout_copies_the_working_tree_but_never_a_home(tmp_path: Path) -> None:
    """The git tree that one stands in, else the folder."""
    home = tmp_path / "home"
    inside = home / "project" / "sub"
    inside.mkdir(parents=True)
    assert demo.working_tree(inside, home) == inside
    (home / "project" / ".git").mkdir()
    assert demo.working_tree(inside, home) == home / "project"
    assert demo.working_tree(home, home) is None
    assert demo.working_tree(tmp_path, home) is None
    assert demo.working_tree(Path("/"), home) is None


def test_an_unreadable_workflow_is_refused(tmp_path: Path) -> None:
    """By its path and the reason."""
    with pytest.raises(InvalidRequest, match="cannot be read: "):
        demo.read_workflow(tmp_path)
    (tmp_path / "latin.yml").write_bytes(b"\xff")
    with pytest.raises(InvalidRequest, match="it is not UTF-8"):
        demo.read_workflow(tmp_path / "latin.yml")


def test_logs_are_kept_when_asked_for(tmp_path: Path) -> None:
    """And the scratch folder is gone in any case."""
    kept = tmp_path / "kept"
    with demo.scratch_folder(kept) as scratch:
        (scratch / "logs").mkdir()
        (scratch / "logs" / "pod.log").write_text("x")
    assert (kept / "pod.log").read_text() == "x"
    assert not scratch.exists()
    with demo.scratch_folder(kept) as scratch:
        assert not (scratch / "logs").exists()


async def test_a_checkout_of_a_whole_home_is_refused_before_anything_is_started() -> None:
    """The example checks out, and there is nothing to copy."""
    with pytest.raises(InvalidRequest, match=r"job 'train' uses actions/checkout.*go to the project's folder"):
        await demo.run_demo(demo.DemoOptions(), environ={}, say=lambda _who, _line: None)


def test_a_workflow_without_a_stop_is_warned_of() -> None:
    """In the words of lint."""
    assert demo.unstopped(demo.read_workflow(None), "a.yml") == ()
    job = "{runs-on: ubuntu-latest, steps: [{run: exec runner-provisioner start}]}"
    (warning,) = demo.unstopped(f"on: push\njobs: {{start: {job}}}\n", "a.yml")
    assert warning.startswith("a.yml:2: error: what is started with key 'default' is stopped nowhere")


class FullDisk(io.StringIO):
    """A file that nothing can be written to."""

    def write(self, _text: str, /) -> int:
        """Fail."""
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_work_that_nobody_can_read_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Saying something never raises; the work ends soon after, as OutputLost."""
    monkeypatch.setattr(sys, "stdout", FullDisk())
    talk = demo.Talk(to_stderr=False)

    async def work() -> None:
        talk.say("demo", "a line")
        talk.say("demo", "another")
        await anyio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        await talk.during(work)
    assert caught.group_contains(OutputLost, match="could not be written")
    with pytest.raises(OutputLost, match="No space left"):
        talk.write("result")


def test_without_any_standard_output_nothing_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """There would be nowhere to put the result."""
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(OutputLost, match="is closed"):
        demo.Talk(to_stderr=True)


async def test_a_bad_workflow_is_one_error_before_anything_is_started(tmp_path: Path) -> None:
    """An InvalidRequest, which the command line prints in one line."""
    bad = tmp_path / "bad.yml"
    bad.write_text("jobs: {}")
    with pytest.raises(InvalidRequest, match="the workflow has no jobs"):
        await demo.run_demo(demo.DemoOptions(workflow=bad), environ={}, say=lambda _who, _line: None)
