"""The GitHub adapter against the GitHub simulator, which reads the documentation independently."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from support.fakes import NAME, pod

from runner_provisioner._http import CallMetrics, Plumbing, Tempo
from runner_provisioner.clock import SystemClock
from runner_provisioner.domain.names import Scope
from runner_provisioner.domain.pods import Pod
from runner_provisioner.domain.runners import RunnerId, RunnerState, RunStatus
from runner_provisioner.errors import (
    AuthenticationFailed,
    GitHubError,
    JobStillRunning,
    PermissionDenied,
    ProtocolViolation,
    RateLimited,
    RunnerBusy,
    RunnerGroupInvisible,
    ServerError,
)
from runner_provisioner.github.connect import AppCredential, GitHub, TokenCredential, connect
from runner_provisioner.logging import Redactor
from runner_provisioner.ports import RunnerRegistry, WorkflowRuns
from runner_provisioner.services.jit import JitHandOver
from runner_provisioner.simulators.faults import Fault, FaultKind
from runner_provisioner.simulators.github.server import GitHubSimulator
from runner_provisioner.simulators.serving import Loopback
from runner_provisioner.simulators.transport import InProcess
from runner_provisioner.testing.clock import FakeClock

REPO = Scope.parse("octo/app")
ORG = Scope.parse("octo")
CLASSIC = TokenCredential(token="ghp_classicclassic1234")
FINE = TokenCredential(token="github_pat_fine1234567890")


@pytest.fixture(scope="module")
def private_key() -> str:
    """An App's private key as GitHub hands it out."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


@pytest.fixture
def app(private_key: str) -> AppCredential:
    """The App by its client id."""
    return AppCredential(app_id="Iv23liSIM", private_key=private_key)


@pytest.fixture
def clock() -> FakeClock:
    """Time that jumps, for both sides."""
    return FakeClock()


@pytest.fixture
def sim(clock: FakeClock, private_key: str) -> Iterator[GitHubSimulator]:
    """An organisation with two repositories, an App on it and two personal tokens."""
    made = populated(GitHubSimulator(clock), private_key)
    yield made
    assert made.violations == []


def populated(sim: GitHubSimulator, private_key: str) -> GitHubSimulator:
    """Fill a simulator."""
    sim.add_organisation("octo")
    sim.add_repository("octo/app")
    sim.add_repository("octo/other")
    sim.add_app(77, "Iv23liSIM", private_key)
    sim.install_app(77, "octo")
    sim.add_token(CLASSIC.token)
    sim.add_token(FINE.token, {"actions": "read", "metadata": "read"})
    return sim


@pytest.fixture
def plumbing(sim: GitHubSimulator, clock: FakeClock) -> Plumbing:
    """Leads to the simulator without sockets."""
    return Plumbing(
        clock=clock,
        redactor=Redactor(),
        tempo=Tempo(),
        metrics=CallMetrics(),
        user_agent="runner-provisioner/test",
        transport=InProcess({"api.github.com": sim.app}),
    )


Adapter = Callable[..., GitHub]


@pytest.fixture
def adapter(plumbing: Plumbing) -> Adapter:
    """Builds the adapter as a new process would."""

    def build(credential: AppCredential | TokenCredential, scope: Scope = REPO, **options: str) -> GitHub:
        return connect(scope, credential, plumbing=plumbing, **options)  # type: ignore[arg-type]

    return build


def operations(sim: GitHubSimulator) -> list[str]:
    """What was asked, in order."""
    return [call.operation for call in sim.calls]


@pytest.mark.parametrize("scope", [REPO, ORG], ids=["repository", "organisation"])
async def test_a_start_as_an_app_takes_five_calls_and_one_for_an_organisations_groups(
    sim: GitHubSimulator, adapter: Adapter, app: AppCredential, scope: Scope
) -> None:
    """The whole of what a start asks, and the last is the token to register with."""
    github = adapter(app, scope, repository="octo/app")
    where = "repo" if scope.repository else "org"

    await github.runners.check()
    found = await github.runners.download()
    assert await github.runners.find("rp-x") is None
    registration = await github.runners.register()

    assert operations(sim) == [
        f"installation.{where}", "access_tokens", *(["groups.list"] if scope == ORG else []),
        "downloads", "runners.list", "registration-token",
    ]  # fmt: skip
    assert found.version == "2.338.0"
    assert registration.url == f"https://github.com/{scope.path}"


def test_the_adapter_is_what_the_use_cases_ask_for(adapter: Adapter) -> None:
    """The type checker proves the signatures; nothing is sent."""
    github = adapter(CLASSIC)
    registry: RunnerRegistry = github.runners
    runs: WorkflowRuns = github.runs

    assert (registry, runs) == (github.runners, github.runs)


async def test_runners_come_and_go(sim: GitHubSimulator, adapter: Adapter) -> None:
    """Found by name, seen busy, refused while busy, removed, and removed again."""
    runners = adapter(CLASSIC).runners
    played = sim.play_runner("octo/app", "rp-1", ["gpu"])
    sim.play_runner("octo/app", "rp-2", online=False)

    idle = await runners.find("rp-1")
    assert idle is not None
    assert (idle.state, "gpu" in idle.labels) == (RunnerState.IDLE, True)
    sim.queue_job("octo/app", ["gpu"])
    assert sim.play_take(played) is not None
    busy = await runners.get(idle.id)
    assert busy is not None
    assert busy.state is RunnerState.BUSY
    with pytest.raises(RunnerBusy, match="rp-1"):
        await runners.remove(idle.id)

    sim.play_finish(played)
    await runners.remove(idle.id)
    assert await runners.get(idle.id) is None
    (left,) = await runners.list("rp-")
    assert (left.name, left.state) == ("rp-2", RunnerState.OFFLINE)
    await runners.remove(left.id)
    await runners.remove(left.id)
    assert sim.runners() == []


class Waits:
    """`ports.HandOver`: a pod that waits, and takes what it is given."""

    def __init__(self) -> None:
        """Nothing is given yet."""
        self.given: list[str] = []

    async def waits(self, pod: Pod) -> bool:
        """It does."""
        return True

    async def give(self, pod: Pod, config: str) -> None:
        """Take it."""
        self.given.append(config)


async def test_a_name_that_a_busy_ghost_holds_is_free_once_github_gives_its_job_up(
    sim: GitHubSimulator, adapter: Adapter, clock: FakeClock
) -> None:
    """The configuration is refused (409), the ghost cannot be removed (422); after ten minutes both work."""
    ghost = sim.play_runner("octo/app", NAME, ["gpu"])
    sim.queue_job("octo/app", ["gpu"])
    assert sim.play_take(ghost) is not None
    sim.play_loss(ghost)
    way_in = Waits()
    jit = JitHandOver(registry=adapter(CLASSIC).runners, way_in=way_in, labels=("gpu",))

    with pytest.raises(RunnerBusy, match=NAME):
        await jit.give(pod(), NAME)
    assert operations(sim)[-3:] == ["generate-jitconfig", "runners.list", "runners.delete"]
    assert way_in.given == []

    await clock.sleep(11 * 60)
    assert await jit.give(pod(), NAME)
    (runner,) = sim.runners()
    assert runner is not ghost
    assert runner.name == NAME
    assert len(way_in.given) == 1


async def test_many_runners_are_listed_over_pages(sim: GitHubSimulator, adapter: Adapter) -> None:
    """Two hundred and fifty are three pages."""
    for number in range(250):
        sim.play_runner("octo", f"rp-{number}")

    found = await adapter(CLASSIC, ORG).runners.list("rp-")

    assert len({runner.id for runner in found}) == 250
    assert operations(sim) == ["runners.list"] * 3


async def test_a_runner_group_must_be_visible_to_the_repository(sim: GitHubSimulator, adapter: Adapter) -> None:
    """A group for another repository is refused with the names of those that may be used."""
    sim.add_group("octo", "gpu", repositories=["octo/other"])

    with pytest.raises(RunnerGroupInvisible, match=r"octo/app may not use .*'gpu' \(it may use: 'Default'\)"):
        await adapter(CLASSIC, ORG, runner_group="gpu", repository="octo/app").runners.check()
    await adapter(CLASSIC, ORG, runner_group="gpu", repository="octo/other").runners.check()


async def test_an_app_token_reaches_one_repository(sim: GitHubSimulator, adapter: Adapter, app: AppCredential) -> None:
    """At organisation scope the runs of another repository are read with a token for that one."""
    github = adapter(app, ORG, repository="octo/app")
    mine, others = sim.queue_job("octo/app", ["x"]), sim.queue_job("octo/other", ["x"])

    await github.runners.list()
    assert await github.runs.attempt("octo/app", mine, 1) is RunStatus.ACTIVE
    assert await github.runs.attempt("octo/other", others, 1) is RunStatus.ACTIVE

    assert operations(sim) == ["installation.org", "access_tokens", "runners.list", "run", "access_tokens", "run"]


async def test_a_run_is_followed_through_its_attempts(sim: GitHubSimulator, adapter: Adapter) -> None:
    """Active, refused a rerun, cancelled, rerun: the first attempt is over, the second active."""
    runs = adapter(CLASSIC).runs
    run_id = sim.queue_job("octo/app", ["gpu"])
    assert await runs.attempt("octo/app", run_id, 1) is RunStatus.ACTIVE
    assert await runs.attempt("octo/app", run_id, 2) is None
    assert await runs.attempt("octo/app", 999999, 1) is None
    with pytest.raises(JobStillRunning):
        await runs.rerun_failed_jobs("octo/app", run_id)

    await runs.cancel("octo/app", run_id)
    assert await runs.attempt("octo/app", run_id, 1) is RunStatus.COMPLETED
    with pytest.raises(GitHubError):
        await runs.cancel("octo/app", run_id)

    await runs.rerun_failed_jobs("octo/app", run_id)
    assert await runs.attempt("octo/app", run_id, 1) is RunStatus.COMPLETED
    assert await runs.attempt("octo/app", run_id, 2) is RunStatus.ACTIVE
    (first,) = await runs.jobs("octo/app", run_id, 1)
    (latest,) = await runs.jobs("octo/app", run_id)
    assert (first.conclusion, first.labels) == ("cancelled", ("gpu",))
    assert (latest.status, latest.conclusion, latest.runner_name) == ("queued", None, None)


async def test_a_job_names_its_runner(sim: GitHubSimulator, adapter: Adapter) -> None:
    """What a runner took, and when, is read back."""
    run_id = sim.queue_job("octo/app", ["gpu"])
    runner = sim.play_runner("octo/app", "rp-1", ["gpu"])
    sim.play_take(runner)
    sim.play_finish(runner, "failure")

    (job,) = await adapter(CLASSIC).runs.jobs("octo/app", run_id)

    assert (job.runner_name, job.status, job.conclusion) == ("rp-1", "completed", "failure")
    assert job.started_at is not None
    assert job.started_at.tzinfo is not None


@pytest.mark.parametrize("method", ["check", "register", "list"])
async def test_a_token_without_administration_is_named_what_it_lacks(
    adapter: Adapter, sim: GitHubSimulator, method: str
) -> None:
    """The permission is in the error, as GitHub's header has it."""
    with pytest.raises(PermissionDenied, match="administration"):
        await getattr(adapter(FINE).runners, method)()
    assert len(sim.calls) == 1


async def test_an_unknown_token_is_refused(adapter: Adapter) -> None:
    """The message says which credential to renew."""
    with pytest.raises(AuthenticationFailed, match="the token in GH_PAT"):
        await adapter(TokenCredential(token="ghp_unknown1234", origin="GH_PAT")).runners.check()


async def test_an_app_that_was_granted_less_is_told_what(
    sim: GitHubSimulator, adapter: Adapter, private_key: str
) -> None:
    """Before anything is rented, by the permission's name."""
    sim.add_app(78, "Iv23liLESS", private_key, permissions={"actions": "read"})
    sim.install_app(78, "octo")

    with pytest.raises(PermissionDenied, match="lacks the permission administration: write"):
        await adapter(AppCredential(app_id="78", private_key=private_key)).runners.check()


async def test_an_app_that_is_suspended_or_elsewhere_is_told_so(
    sim: GitHubSimulator, adapter: Adapter, private_key: str
) -> None:
    """A suspended installation, a given one too, and one that does not cover the repository."""
    sim.add_app(79, "Iv23liSUSP", private_key)
    suspended = sim.install_app(79, "octo", suspended=True)
    sim.add_app(80, "Iv23liELSE", private_key)
    sim.install_app(80, "octo", repositories=["octo/other"])

    with pytest.raises(PermissionDenied, match="unsuspend"):
        await adapter(AppCredential(app_id="79", private_key=private_key)).runners.check()
    given = AppCredential(app_id="79", private_key=private_key, installation_id=suspended.id)
    with pytest.raises(PermissionDenied, match="unsuspend"):
        await adapter(given).runners.check()
    with pytest.raises(PermissionDenied, match="not installed on octo/app"):
        await adapter(AppCredential(app_id="80", private_key=private_key)).runners.check()


async def test_an_installation_token_is_renewed_in_time(
    sim: GitHubSimulator, adapter: Adapter, app: AppCredential, clock: FakeClock
) -> None:
    """Over three hours no call is ever made with a token that has ended."""
    runners = adapter(app).runners
    for _ in range(36):
        await runners.list()
        clock.advance(300)

    assert operations(sim).count("access_tokens") == 4
    assert operations(sim).count("installation.repo") == 1


async def test_a_renamed_repository_is_found_and_not_registered_with(sim: GitHubSimulator, adapter: Adapter) -> None:
    """Reading follows the redirect; a registration under the old name says to check the name."""
    sim.rename_repository("octo/app", "renamed")
    github = adapter(CLASSIC)

    assert await github.runners.list() == []
    with pytest.raises(ProtocolViolation, match="check the address and the name"):
        await github.runners.register()


async def test_an_exhausted_hour_is_an_error_that_says_how_long(sim: GitHubSimulator, adapter: Adapter) -> None:
    """Nothing waits for the better part of an hour."""
    sim.settings.core_limit = 1
    runners = adapter(CLASSIC).runners
    await runners.list()

    with pytest.raises(RateLimited) as caught:
        await runners.list()
    assert caught.value.retry_after == pytest.approx(3601, abs=2)


async def test_a_secondary_limit_is_waited_for(sim: GitHubSimulator, adapter: Adapter, clock: FakeClock) -> None:
    """A minute that GitHub asks for is given, by our clock."""
    sim.settings.secondary_points = 2
    runs = adapter(CLASSIC).runs
    run_id = sim.queue_job("octo/app", ["x"])
    for _ in range(3):
        assert await runs.attempt("octo/app", run_id, 1) is RunStatus.ACTIVE

    assert 60 <= clock.monotonic() <= 61


@pytest.mark.parametrize(
    "kind",
    [FaultKind.ERROR, FaultKind.DROP_BEFORE, FaultKind.DROP_AFTER, FaultKind.MALFORMED],
    ids=str,
)
async def test_a_fault_is_survived_or_named(sim: GitHubSimulator, adapter: Adapter, kind: FaultKind) -> None:
    """One failure of a read or of a token is repeated; nonsense is an error at once."""
    sim.faults.add(Fault(operation="*", kind=kind))
    runners = adapter(CLASSIC).runners

    if kind is FaultKind.MALFORMED:
        with pytest.raises(ProtocolViolation):
            await runners.register()
    await runners.register()
    assert len(sim.calls) == 2


async def test_a_failing_github_is_an_error_in_the_end(sim: GitHubSimulator, adapter: Adapter) -> None:
    """Five tries, then the error of the last."""
    sim.faults.add(Fault(operation="runners.delete", kind=FaultKind.ERROR, status=502, times=None))

    with pytest.raises(ServerError):
        await adapter(CLASSIC).runners.remove(RunnerId(1))
    assert len(sim.calls) == 5


@pytest.mark.parametrize("hours", [-1, 0, 1], ids=["slow", "right", "fast"])
async def test_a_wrong_clock_of_this_machine_is_survived(private_key: str, app: AppCredential, hours: int) -> None:
    """Over a real connection: the App's statement is dated by GitHub's own Date, and everything works."""
    sim = populated(GitHubSimulator(SystemClock()), private_key)
    with Loopback(sim.app) as server:
        plumbing = Plumbing(
            clock=FakeClock(datetime.now(UTC) + timedelta(hours=hours)),
            redactor=Redactor(),
            tempo=Tempo(),
            metrics=CallMetrics(),
            user_agent="runner-provisioner/test",
        )
        scope = Scope.parse("octo/app", server_url=server.url)
        github = connect(scope, app, plumbing=plumbing, api_url=f"{server.url}/api/v3")
        run_id = sim.queue_job("octo/app", ["x"])

        await github.runners.check()
        assert await github.runners.list() == []
        assert await github.runs.attempt("octo/app", run_id, 1) is RunStatus.ACTIVE
        assert (await github.runners.register()).url == f"{server.url}/octo/app"
        await github.aclose()
    assert operations(sim).count("access_tokens") == 1
    assert operations(sim).count("installation.repo") == (1 if hours == 0 else 2)
