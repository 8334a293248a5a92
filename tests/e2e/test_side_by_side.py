"""Several starts, runs and repositories beside each other: nobody ends what is another's."""

from __future__ import annotations

import pytest
from support.e2e import Place, SetUp, Stage
from support.e2e_pods import listener
from support.e2e_steps import until

from runner_provisioner.errors import KeyInUse
from runner_provisioner.simulators.world import REPOSITORY, WorldPlan

OWNER = REPOSITORY.partition("/")[0]
SECOND = f"{OWNER}/second"
FOREIGN = f"{OWNER}/foreign"


@pytest.mark.full
def test_a_matrix_leg_without_its_own_key_fails_and_ends_nothing(stage: Stage) -> None:
    """The second leg gets exit code 26 and the word about keys; the first leg's job goes on and succeeds."""
    with listener() as door:
        run_id = stage.queue(door.wait_here, 'echo "went on"')
        first, second = stage.job(run_id), stage.job(run_id)
        written = first.start()
        first.provide(written["label"])
        assert door.arrived.wait(20)
        done = second.begin_start().wait()
        assert done.code == KeyInUse.exit_code, done.told
        assert "this run already has a pod with key default: give each start its own key" in done.stderr
        door.let_go()
        assert stage.job_ended(run_id) == "success"
    assert "went on" in stage.world.github.job_log(run_id, "gpu")
    first.call("stop").well()
    stage.gone(pods=1)


@pytest.mark.full
def test_matrix_legs_with_keys_of_their_own_each_get_a_pod(stage: Stage) -> None:
    """Two keys of one run: two pods and two labels; stop ends its own key only."""
    run_id = stage.queue("true")
    legs = {key: stage.job(run_id) for key in ("one", "two")}
    written = {key: leg.start("--key", key) for key, leg in legs.items()}
    assert written["one"]["label"] != written["two"]["label"]
    legs["one"].call("stop", "--key", "one").well()
    assert [pod.id for pod in stage.live] == [written["two"]["pod-id"]]
    legs["two"].call("stop", "--key", "two").well()
    stage.gone(pods=2)


@pytest.mark.full
def test_rotated_credentials_change_neither_label_nor_pod(stage: Stage) -> None:
    """A new RunPod key and a new personal token between two starts of the same job; the old ones are revoked."""
    old, new = "ghp_" + "o" * 36, "ghp_" + "n" * 36
    place = stage.job(stage.queue("true"))
    for name in [name for name in place.environ if name.startswith("GITHUB_APP_")]:
        del place.environ[name]
    stage.world.github.add_token(old)
    place.environ["GITHUB_TOKEN"] = old
    first = place.start()
    stage.world.github.add_token(new)
    stage.world.github.revoke_token(old)
    stage.world.runpod.keys.revoke(stage.world.runpod.key)
    assert place.begin_start().wait().code != 0
    place.environ |= {"GITHUB_TOKEN": new, "RUNPOD_API_KEY": stage.world.runpod.keys.add()}
    second = place.start()
    assert (second["label"], second["pod-id"]) == (first["label"], first["pod-id"])
    place.call("stop").well()
    stage.gone(pods=1)


@pytest.mark.parametrize(
    "scope",
    [
        pytest.param((), id="repository runners", marks=pytest.mark.full),
        pytest.param(("--organization", OWNER), id="organisation runners", marks=pytest.mark.full),
    ],
)
def test_cleanup_of_one_repository_leaves_the_others_pod_alone(stage: Stage, scope: tuple[str, ...]) -> None:
    """One organisation, two repositories; the first one's run is over, the second one's job still gets its runner."""
    stage.world.github.add_organisation(OWNER)
    stage.world.github.add_repository(SECOND)
    over, going = stage.queue("true"), stage.queue('echo "still here"', repository=SECOND)
    first, second = stage.job(over), stage.job(going, repository=SECOND)
    starts = [place.begin_start(*scope) for place in (first, second)]
    for start in starts:
        start.wait().well()
    stage.world.github.complete_run(over, conclusion="failure")
    first.call("cleanup", *scope).well()
    assert [pod.env["RP_REPOSITORY"] for pod in stage.live] == [SECOND]
    second.provide(stage.live[0].env["RP_LABEL"])
    assert stage.job_ended(going) == "success"
    until(lambda: not stage.live, "the second pod ends itself")
    second.call("cleanup", *scope).well()
    stage.gone(pods=2)


def local_start(stage: Stage, *scope: str) -> tuple[Place, dict[str, str]]:
    """A start on a laptop, which says what may land on its runner: its place, and what it printed."""
    place = stage.laptop()
    done = place.begin_start("--json", *scope).wait().well()
    assert f"any job of {REPOSITORY}" in done.stderr
    written: dict[str, str] = done.data
    assert written["run-id"].isalpha()
    return place, written


@pytest.mark.full
def test_a_local_start_takes_a_job_of_any_run_of_its_repository(stage: Stage) -> None:
    """Without a run there is none to compare: the job of a run that knows nothing of the start lands there."""
    place, written = local_start(stage, "--repository", REPOSITORY)
    run_id = stage.world.github.queue_job(REPOSITORY, [written["label"]], steps=['echo "any run"'])
    assert stage.job_ended(run_id, "job") == "success"
    place.call("stop", "--repository", REPOSITORY, "--run-id", written["run-id"]).well()
    stage.gone(pods=1)


@pytest.mark.full
def test_a_local_start_is_ended_by_the_run_id_that_it_printed(stage: Stage) -> None:
    """Another process, in another folder, needs nothing but that."""
    _, written = local_start(stage, "--repository", REPOSITORY)
    stage.laptop().call("stop", "--repository", REPOSITORY, "--run-id", written["run-id"]).well()
    stage.gone(pods=1)


@pytest.mark.full
def test_a_local_start_refuses_a_foreign_repository(stage: Stage) -> None:
    """An organisation's runner for one repository fails the job of another before its first step."""
    stage.world.github.add_organisation(OWNER)
    stage.world.github.add_repository(FOREIGN)
    scope = ("--organization", OWNER, "--repository", REPOSITORY)
    place, written = local_start(stage, *scope)
    run_id = stage.world.github.queue_job(FOREIGN, [written["label"]], steps=['echo "inside"'])
    assert stage.job_ended(run_id, "job") == "failure"
    log = stage.world.github.job_log(run_id, "job")
    assert f"This runner is for {REPOSITORY}" in log
    assert "inside" not in log
    place.call("stop", *scope, "--run-id", written["run-id"]).well()
    stage.gone(pods=1)


@pytest.mark.full
def test_cleanup_in_a_loop_touches_nothing_of_a_slow_start(set_up: SetUp) -> None:
    """From before the create until after the end of `start`, clean-up finds nothing that is nobody's."""
    stage = set_up(WorldPlan(boot_seconds=3.0))
    run_id = stage.queue("true")
    place, sweeper = stage.job(run_id), stage.job(stage.queue("true"))
    start = place.begin_start()
    rounds = 0
    while start.running or rounds < 3:
        swept = sweeper.call("cleanup", "--json").well().data
        assert (swept["ended"], swept["left"]) == ([], [])
        rounds += 1
    start.wait().well()
    assert len(stage.live) == 1
    assert stage.online()
    place.call("stop").well()
    stage.gone(pods=1)
