"""The whole program in one process: real adapters and services against both simulators, in virtual time.

What survives a process is the simulators and the state file; nothing else is shared between two `Process`es.
"""

from __future__ import annotations

import functools
import io
import random
import re
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
from support.bare_pods import START, BarePods, Door
from support.direct_runs import DirectRuns
from support.fakes import FakeHistory
from support.handing import PODS, Waiting, WayIn
from support.stages import GPU, OTHER_GPU, Provider, RunPodStage, Stage, stage_of
from support.stages import RUNPOD_KEY as ACCOUNT_KEY
from support.virtual_time import VirtualClock, VirtualLoop
from support.wire import GITHUB, LATENCY, Rule, Wire, answered

from runner_provisioner import accounts, wiring
from runner_provisioner import logging as program_log
from runner_provisioner._http import CallMetrics, Plumbing, Tempo
from runner_provisioner._redaction import Redactor
from runner_provisioner.domain.events import Event
from runner_provisioner.domain.names import RunKey, base36
from runner_provisioner.domain.request import StartRequest
from runner_provisioner.domain.runners import creator_label, end_label, provider_label
from runner_provisioner.errors import RunnerProvisionerError
from runner_provisioner.ports import History, HostKeys
from runner_provisioner.services.ending import Ended
from runner_provisioner.services.jit import JitHandOver
from runner_provisioner.services.over_ssh import OverSsh
from runner_provisioner.services.provision import Started
from runner_provisioner.services.sweep import Swept
from runner_provisioner.settings import Settings
from runner_provisioner.simulators.github.entities import ApiError, RunnerRecord
from runner_provisioner.simulators.github.server import GitHubSimulator
from runner_provisioner.simulators.market.pods import RentedPod
from runner_provisioner.simulators.runpod import graph
from runner_provisioner.simulators.runpod.simulator import RunPodSimulator
from runner_provisioner.simulators.serving import ASGIApp, ConnectionCut, NeverAnswered
from runner_provisioner.storage.state_file import Forgetting

__all__ = ["ACCOUNT_KEY", "GPU", "OTHER_GPU", "Outcome", "Process", "World", "seed", "small_request"]
REPOSITORY = "octo/gpu"
TOKEN = "ghp_PlantedPersonalToken0123456789abcdefgh"
BOOT = 1.5
REGISTER = 1.0
SETTLE = 4.0
POLL = 2.0
SURCHARGE = Decimal("1.05")


# Documents are parsed once for all worlds, not once for each.
graph._checked = functools.cache(graph._checked)


@dataclass(kw_only=True)
class Outcome:
    """How a command ended: with a result, with an error, by a crash, or cancelled."""

    command: str
    result: Any = None
    error: Exception | None = None
    crashed: bool = False
    cancelled_after: float | None = None

    @property
    def ok(self) -> bool:
        """Whether it came to its proper end."""
        return self.error is None and not self.crashed and self.cancelled_after is None


class World:
    """GitHub and the markets, the pods' start scripts, and the disk."""

    def __init__(
        self,
        folder: Path,
        loop: VirtualLoop,
        *,
        list_lag: float = 0.0,
        spot: bool = True,
        repositories: tuple[str, ...] = (REPOSITORY,),
        logs: bool = True,
        library: bool = True,
        schema: bool = True,
        providers: tuple[Provider, ...] = (Provider.RUNPOD,),
    ) -> None:
        """`spot` False: interruptible pods are listed and refused, where that is how the market does it.

        Two things take longer than everything else together and can be left out: PyGithub, which works in a thread
        (`library`), and holding each exchange with GitHub against its published schema (`schema`).
        """
        self.loop = loop
        self.folder = folder
        self.library = library
        self.clock = VirtualClock(loop)
        self.stages = [stage_of(one, self.clock, boot=BOOT, list_lag=list_lag, spot=spot) for one in providers]
        self.github = GitHubSimulator(self.clock)
        for name in repositories:
            self.github.add_repository(name)
        self.github.add_token(TOKEN)
        if not schema:
            self.github._rest._check_request = _accept  # type: ignore[method-assign, assignment]
            self.github._rest._violation = _accept  # type: ignore[method-assign, assignment]
        self.run_id = self.github.queue_job(repositories[0], ["no-such-label"])
        self.redactor = Redactor()
        self.log = io.StringIO()
        self.texts: list[str] = []
        self.events: list[Event] = []
        self.mute = 0
        """How many of the next pods never register a runner."""
        self.bad = 0
        """How many of the next pods find in their gate that the machine is not what was rented."""
        self.hands_over = False
        """Whether the pods wait for their runner's configuration."""
        self.history = FakeHistory()
        self.dearer = 0
        """How many of the next pods cost more than their offer said."""
        self.register_delay = REGISTER
        self.scopes: dict[str, str] = {}
        self.waiting = Waiting(self)
        self.bare = BarePods(self)
        self._apps: dict[str, ASGIApp] = {GITHUB: self.github.app, **{one.host: one.sim.app for one in self.stages}}
        self._lives: dict[str, RunnerRecord | None] = {}
        self._stages: dict[str, Stage] = {}
        self._errands = 0
        level = "debug" if logs else "critical"
        program_log.configure(mode="json", level=level, redactor=self.redactor, stream=self.log)

    # -- the network

    async def deliver(self, request: httpx.Request) -> httpx.Response:
        """Let a request arrive and be answered."""
        try:
            if request.url.host == PODS:
                return (self.bare if request.url.path.endswith(START) else self.waiting).answer(request)
            return await answered(self._apps[request.url.host], request)
        except NeverAnswered:
            await anyio.sleep_forever()
            raise
        except ConnectionCut as error:
            raise httpx.ReadError(str(error), request=request) from error
        finally:
            if request.url.host not in {GITHUB, PODS}:
                self.notice()

    def watch_threads(self, program: wiring.Program) -> None:
        """Let time stand still while PyGithub computes in a thread."""
        limiter = anyio.to_thread.current_default_thread_limiter()
        self.loop.elsewhere = lambda: limiter.borrowed_tokens > self._errands
        assert program.github is not None
        api = program.github._api
        plain = api.call

        async def counted(operation: str, *args: Any, **named: Any) -> Any:  # noqa: ANN401 - passed on as it is
            if operation != "getRun":
                return await plain(operation, *args, **named)
            self._errands += 1
            try:
                return await plain(operation, *args, **named)
            finally:
                self._errands -= 1

        api.call = counted  # type: ignore[method-assign]

    # -- the markets

    @property
    def stage(self) -> Stage:
        """The first market, or the only one."""
        return self.stages[0]

    @property
    def runpod(self) -> RunPodSimulator:
        """RunPod, in a world that has it."""
        return next(one.sim for one in self.stages if isinstance(one, RunPodStage))

    def stage_of(self, pod: RentedPod) -> Stage:
        """Whose pod it is."""
        if pod.id not in self._stages:
            self._stages |= {each.id: stage for stage in self.stages for each in stage.sim.pods()}
        return self._stages[pod.id]

    def pods(self) -> list[Any]:
        """Every pod that there ever was, of every market."""
        return [pod for stage in self.stages for pod in stage.sim.pods()]

    def wish(self, **more: Any) -> StartRequest:  # noqa: ANN401 - any field of a request
        """A small request that these markets may serve, whether a forgotten pod ends there or not."""
        unended = any(not stage.kill_time for stage in self.stages)
        return small_request(**{"accept_no_kill_time": unended, **more})

    def interrupt(self, pod: RentedPod, reason: str = "") -> None:
        """The provider takes the machine back."""
        self.stage_of(pod).sim.interrupt(pod.id, reason=reason)
        self.notice()

    def creates(self) -> int:
        """How many creates arrived."""
        return sum(stage.creates() for stage in self.stages)

    def gpu_bill(self) -> Decimal:
        """What the markets ask for GPUs."""
        return sum((stage.sim.bill().gpu for stage in self.stages), Decimal(0))

    def total_bill(self) -> Decimal:
        """What the markets ask."""
        return sum((stage.sim.bill().total for stage in self.stages), Decimal(0))

    # -- the pods

    def notice(self) -> None:
        """Begin the life of every new pod, and end the listener of every pod that is gone."""
        for pod in self.pods():
            if pod.id not in self._lives:
                self._lives[pod.id] = None
                self._begin(pod, self.stage_of(pod))
            runner = self._lives[pod.id]
            if runner is not None and runner.online and not self.alive(pod):
                self.github.play_loss(runner)

    def _begin(self, pod: Any, stage: Stage) -> None:  # noqa: ANN401 - a pod of its market
        if self.dearer > 0:
            self.dearer -= 1
            stage.make_dearer(pod, SURCHARGE)
        fate: Callable[[Any], None] | None = None if pod.foreign else self._register
        if self.mute > 0:
            self.mute -= 1
            fate = None
        elif self.bad > 0:
            self.bad -= 1
            fate = self._fail_gate
        boot = stage.sim.fleet.settings.progress.seconds
        if stage.bare:
            self.bare.expect(pod, boot, fate)
        elif fate is not None:
            self.loop.call_later(boot + self.register_delay, fate, pod)

    def _register(self, pod: RentedPod) -> None:
        """What the start script does: one registration under the pod's name; when it fails, the pod ends itself."""
        if not self.alive(pod):
            return
        scope = self.scopes[pod.name.split("-")[1]]
        script = self.stage_of(pod).script(pod)
        tokens = self.github.world.credentials._runner_tokens
        if self.hands_over:
            assert not any(value in script for value in tokens)
            self.waiting.begin(pod)
            return
        assert any(token.scope == scope.lower() and value in script for value, token in tokens.items())
        try:
            stage = self.stage_of(pod)
            env = stage.env(pod)
            ends = end_label(datetime.fromisoformat(env["RP_EXPIRES"]))
            labels = [env["RP_LABEL"], creator_label(env["RP_CREATOR"]), ends, provider_label(stage.name)]
            assert ",".join(labels) in script
            runner = self.github.play_runner(scope, pod.name, labels)
        except ApiError:
            self.end_from_inside(pod)
            return
        self.serves(pod, runner)

    def serves(self, pod: RentedPod, runner: RunnerRecord) -> None:
        """The pod's runner listens, until its idle time is over."""
        self._lives[pod.id] = runner
        self.loop.call_later(_idle_seconds(self.stage_of(pod).script(pod)), self._idle, pod, runner)

    def _fail_gate(self, pod: RentedPod) -> None:
        if self.alive(pod):
            self.bare.failed.add(pod.id)
            self.end_from_inside(pod)

    def _idle(self, pod: RentedPod, runner: RunnerRecord) -> None:
        """The dead-man's switch: no job came."""
        if self.alive(pod) and not runner.busy:
            self.github.world.forget(runner)
            self.end_from_inside(pod)

    def alive(self, pod: RentedPod) -> bool:
        """Whether it runs."""
        return self.stage_of(pod).alive(pod)

    def end_from_inside(self, pod: RentedPod) -> None:
        """The pod removes itself, or, where it has nothing to do that with, stays and bills without a runner."""
        stage = self.stage_of(pod)
        if stage.ends_from_inside:
            with stage.sim.lock:
                stage.sim.fleet.terminate(pod, self.clock.now(), by="itself")
        self.notice()

    def runner_of(self, pod_id: str) -> RunnerRecord | None:
        """Who runs in that pod."""
        return self._lives.get(pod_id)

    def work(self, pod_id: str, labels: list[str]) -> int:
        """Queue a job for the pod's runner and let it begin; the run's id."""
        runner = self._lives[pod_id]
        assert runner is not None
        run_id = self.github.queue_job(self.run_repository(runner), labels)
        assert self.github.play_take(runner) is not None
        return run_id

    def run_repository(self, runner: RunnerRecord) -> str:
        """A repository whose jobs the runner sees."""
        return runner.scope if "/" in runner.scope else f"{runner.scope}/one"

    # -- what is left

    def live(self, name: str | None = None) -> list[Any]:
        """Pods that cost money."""
        return [pod for stage in self.stages for pod in stage.sim.live() if name in (None, pod.name)]

    def longest_overlap(self) -> float:
        """Longest time, in seconds, that two pods of one name billed at once."""
        now = self.clock.now()
        by_name: dict[str, list[tuple[datetime, datetime]]] = {}
        for pod in self.pods():
            by_name.setdefault(pod.name, []).append((pod.created_at, pod.ended_at or now))
        longest = 0.0
        for spans in by_name.values():
            spans.sort()
            for index, (_begin, end) in enumerate(spans):
                for later, until in spans[index + 1 :]:
                    longest = max(longest, (min(end, until) - later).total_seconds())
        return longest

    def used(self) -> Decimal:
        """What the pods must have cost: price times begun seconds, from when they were created until they ended."""
        total = Decimal(0)
        now = self.clock.now()
        for pod in self.pods():
            seconds = -((pod.created_at - (pod.ended_at or now)) // timedelta(seconds=1))
            total += pod.price * seconds / 3600
        return total

    def secrets(self) -> list[str]:
        """Everything that must not be seen."""
        tokens = list(self.github.world.credentials._runner_tokens)
        of_markets = [secret for stage in self.stages for secret in stage.secrets()]
        return [TOKEN, *tokens, *self.waiting.configs, *of_markets]

    def check_secrets(self) -> None:
        """No secret in a log, an event, an error, or on the disk."""
        files = [path.read_text("utf-8") for path in self.folder.rglob("*") if path.is_file()]
        everything = "\n".join([self.log.getvalue(), *self.texts, *map(repr, self.events), *files])
        for secret in self.secrets():
            assert secret not in everything
        assert "PRIVATE KEY" not in everything


def _accept(*_exchange: object) -> None:
    """Find nothing wrong."""


def _idle_seconds(script: str) -> int:
    """The setting that follows the account of the job; in the script its name is a short one."""
    found = re.search(r"^_\w+=(?:user|root|same)\n_\w+=(\d+)$", script, re.MULTILINE)
    assert found is not None
    return int(found[1])


@dataclass(kw_only=True)
class Process:
    """One command after another, each with everything built anew, as on the command line."""

    world: World
    rule: Rule | None = None
    token: str = TOKEN
    repository: str = REPOSITORY
    organization: str | None = None
    run: str | None = None
    attempt: int = 1
    state: str = "state"
    latency: float = LATENCY
    account_key: str | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    history: History | None = None
    wire: Wire = field(init=False)

    def __post_init__(self) -> None:
        self.wire = Wire(self.world, self.rule, latency=self.latency)

    @property
    def settings(self) -> Settings:
        """What the environment says."""
        environ = {
            **{name: value for stage in self.world.stages for name, value in stage.environ.items()},
            **({"RUNPOD_API_KEY": self.account_key} if self.account_key is not None else {}),
            "RUNNER_PROVISIONER_GITHUB_TOKEN": self.token,
            "GITHUB_TOKEN": self.token,
            "GITHUB_API_URL": f"https://{GITHUB}",
            "GITHUB_SERVER_URL": f"https://{GITHUB}",
            "GITHUB_REPOSITORY": self.repository,
            "XDG_CACHE_HOME": str(self.world.folder / "cache"),
            "RUNNER_PROVISIONER_SETTLE": str(SETTLE),
            "RUNNER_PROVISIONER_POLL_BOOTING": str(POLL),
            "RUNNER_PROVISIONER_POLL_RUNNING": str(POLL),
            **self.environ,
        }
        return Settings.read(environ, home=self.world.folder, cwd=self.world.folder)

    def program(self) -> wiring.Program:
        """The parts, on this process's wire."""
        settings = self.settings
        place = wiring.Place.of(settings, repository=None, organization=self.organization, owner=None)
        self.world.scopes[place.owner8] = place.scope.path
        tempo = Tempo(request_timeout=settings.request_timeout, retry_base=settings.retry_base)
        plumbing = Plumbing(
            clock=self.world.clock,
            redactor=self.world.redactor,
            tempo=tempo,
            metrics=CallMetrics(),
            transport=self.wire,
            user_agent="runner-provisioner/test",
        )
        program = wiring.Program(
            settings=settings,
            clock=self.world.clock,
            tempo=tempo,
            metrics=plumbing.metrics,
            redactor=self.world.redactor,
            events=self,
            plumbing=plumbing,
            providers=wiring.providers_of(settings, plumbing),
            place=place,
            github=accounts.github(settings, plumbing, place.scope, repository=place.repository),
            history=self.world.history if self.history is None else self.history,
        )
        real = program._over_ssh

        def over_ssh(host_keys: HostKeys) -> OverSsh | None:
            found = real(host_keys)
            if found is None:
                return None
            doors = {name: Door(self.wire, host_keys) for name in found.public_keys}
            return OverSsh(doors=doors, public_keys=found.public_keys)

        program._over_ssh = over_ssh  # type: ignore[method-assign]
        assert program.github is not None
        if self.world.library:
            self.world.watch_threads(program)
        else:
            direct = DirectRuns(program)
            program.github = replace(program.github, runs=direct, queue=direct)  # type: ignore[arg-type]
        return program

    def emit(self, event: Event) -> None:
        """Take note of what happened."""
        self.world.events.append(event)

    def run_key(self, program: wiring.Program, key: str = "default") -> RunKey:
        """The key of this process's run."""
        assert program.place is not None
        run = self.run or base36(self.world.run_id)
        return RunKey(owner8=program.place.owner8, run=run, attempt=self.attempt, key=key)

    async def start(self, request: StartRequest | None = None, *, key: str = "default") -> Outcome:
        """`start`."""

        async def work() -> Started:
            program = self.program()
            run_key = self.run_key(program, key)
            path = self.world.folder / self.state / f"{run_key.name}.json"
            wanted = request or self.world.wish()
            order, store = program.order(wanted, run_key, state=path, ssh_keys=())
            if order.jit is not None:
                assert program.github is not None
                labels = (order.label, *wanted.label)
                jit = JitHandOver(registry=program.github.runners, way_in=WayIn(self.wire), labels=labels)
                order = replace(order, jit=jit)
            return await program.start(wanted, store).run(order)

        return await self._run("start", work)

    async def stop(self, *, key: str = "default", every_attempt: bool = False) -> Outcome:
        """`stop`."""

        async def work() -> list[Ended]:
            program = self.program()
            return await program.ending().stop(self.run_key(program, key), every_attempt=every_attempt)

        return await self._run("stop", work)

    async def stop_for_good(self) -> Outcome:
        """`stop` as the command line does it: it forgets the state files of its folder, and outlasts other starts."""

        async def work() -> list[Ended]:
            program = self.program()
            since, store = program.clock.now(), Forgetting(self.world.folder / self.state)
            ended = await program.ending(store).stop(self.run_key(program))
            return await program.outlast().run(ended, since=since, told=store.forgotten)

        return await self._run("stop", work)

    async def cleanup(self) -> Outcome:
        """`cleanup`."""

        async def work() -> Swept:
            return await self.program().sweep().run()

        return await self._run("cleanup", work)

    async def _run(self, command: str, work: Callable[[], Awaitable[Any]]) -> Outcome:
        outcome = Outcome(command=command)
        cancelled_at: list[float] = []
        with anyio.CancelScope() as scope:

            def cancel() -> None:
                cancelled_at.append(self.world.clock.monotonic())
                scope.cancel()

            self.wire.cancel = cancel
            try:
                outcome.result = await work()
            except RunnerProvisionerError as error:
                outcome.error = error
                self.world.texts += [str(error), repr(error), "".join(traceback.format_exception(error))]
            except BaseException as error:
                if not self.wire.dead or isinstance(error, Exception):
                    raise  # a crash that was taken for an error is one itself
                outcome.crashed = True
        if cancelled_at and outcome.result is None:
            outcome.cancelled_after = self.world.clock.monotonic() - cancelled_at[0]
        return outcome


def small_request(**more: Any) -> StartRequest:  # noqa: ANN401 - any field of a request
    """Two models, so that there is a next offer, and times that fit the harness."""
    return StartRequest(
        **{
            "gpu": (GPU, OTHER_GPU),
            "start_timeout": timedelta(minutes=10),
            "boot_timeout": timedelta(minutes=2),
            **more,
        }
    )


def seed(*parts: object) -> None:
    """Make the jitter of a case its own and the same each time."""
    random.seed(repr(parts))
