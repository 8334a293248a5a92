"""What one pass over many leases costs: calls to both services, and seconds of this program alone.

The answers are the simulators', asked for once and then replayed, so that only the program's own time is measured:
its adapters, the reading of the answers, the decisions and the saving.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta
from statistics import median

import httpx

from benchmarks.measure import Figure
from runner_provisioner._http import CallMetrics, Pace, Plumbing, Tempo
from runner_provisioner._redaction import Redactor
from runner_provisioner.clock import SystemClock
from runner_provisioner.domain.events import Event
from runner_provisioner.domain.leases import Lease, Limits, Phase, PodRef
from runner_provisioner.domain.names import Scope, base36
from runner_provisioner.domain.pods import PodClass, PodId, PodTags
from runner_provisioner.github.connect import TokenCredential, connect
from runner_provisioner.providers.runpod.api import BATCH, RunPodApi
from runner_provisioner.providers.runpod.provider import RunPodProvider
from runner_provisioner.services.act import Hands
from runner_provisioner.services.ending import ForgetfulStore
from runner_provisioner.services.fleet import reconcile_all
from runner_provisioner.services.observe import Lookout
from runner_provisioner.services.reconcile import Polls, Reconciler
from runner_provisioner.simulators.github.server import GitHubSimulator
from runner_provisioner.simulators.runpod.simulator import RunPodSimulator
from runner_provisioner.simulators.transport import InProcess

ROUNDS = 5
SIZES = (1, 100, 1000)
SECONDS_GOAL = 0.5
SHARE_GOAL = 0.5  # of the time that as many single passes take
PAGE = 100  # runners a page (docs.github.com/rest/actions/self-hosted-runners)
RUNPOD, GITHUB = "runpod.test", "github.test"
REPOSITORY = "octo/gpu"
TOKEN = "ghp_benchmarkbenchmarkbenchmarkbenchmark"  # noqa: S105 - the simulator's
UNPACED = Pace(per_second=1_000_000, per_minute=1_000_000)


@dataclass(frozen=True, kw_only=True)
class Pass:
    """A pass over so many leases: calls of one, and the median seconds."""

    size: int
    calls: int
    seconds: float

    @property
    def expected(self) -> int:
        """One list of pods, their reads in batches, and the pages of runners (of one: a read and a search)."""
        return 1 + -(-self.size // BATCH) + -(-self.size // PAGE)


def figures(rounds: int = ROUNDS) -> list[Figure]:
    """The calls of each size, and the time of 100."""
    passes = [asyncio.run(measured(size, rounds)) for size in SIZES]
    one, hundred, thousand = passes
    counted = [
        Figure(
            name=f"calls of a pass over {each.size} leases",
            value=each.calls,
            goal=each.expected,
            unit="calls",
            detail=f"one list of pods, reads of {BATCH} pods each, pages of {PAGE} runners",
            binding=True,
        )
        for each in passes
    ]
    detail = f"median of {rounds}; 1 lease {1000 * one.seconds:.1f} ms, 1000 leases {thousand.seconds:.2f} s"
    return [
        *counted,
        Figure(name="pass over 100 leases", value=hundred.seconds, goal=SECONDS_GOAL, unit="s", detail=detail),
        Figure(
            name="pass over 100 / 100 passes over 1",
            value=hundred.seconds / (100 * one.seconds),
            goal=SHARE_GOAL,
            unit="x",
            detail=detail,
        ),
    ]


async def measured(size: int, rounds: int) -> Pass:
    """Build a fleet of serving leases, and look at it."""
    fleet = _Fleet(size)
    taken = []
    calls = 0
    for _ in range(rounds + 1):
        reconcilers = [fleet.reconciler(lease) for lease in fleet.leases]
        before = fleet.wire.calls
        begin = time.perf_counter()
        errors = await reconcile_all(reconcilers, fleet.lookout)
        taken.append(time.perf_counter() - begin)
        calls = fleet.wire.calls - before
        if errors or {one.lease.phase for one in reconcilers} != {Phase.READY}:
            raise RuntimeError(f"the pass did not see its fleet: {errors}")
    return Pass(size=size, calls=calls, seconds=median(taken[1:]))  # the first one asks the simulators


class _Replay(httpx.AsyncBaseTransport):
    """Answers a request that it knows from memory."""

    def __init__(self, within: httpx.AsyncBaseTransport) -> None:
        self._within = within
        self._known: dict[tuple[str, str, bytes], tuple[int, httpx.Headers, bytes]] = {}
        self.calls = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        asked = (request.method, str(request.url), await request.aread())
        if asked not in self._known:
            answer = await self._within.handle_async_request(request)
            self._known[asked] = (answer.status_code, answer.headers, await answer.aread())
        status, headers, content = self._known[asked]
        return httpx.Response(status, headers=headers, content=content, request=request)


class _Deaf:
    def emit(self, event: Event) -> None:
        """Nobody is told."""


class _Fleet:
    """So many pods whose runners are idle, and the program's adapters before them."""

    def __init__(self, size: int) -> None:
        self._clock = SystemClock()
        scope = Scope.parse(REPOSITORY, server_url=f"https://{GITHUB}")
        runpod, github = RunPodSimulator(self._clock, key="rpa_benchmark"), GitHubSimulator(self._clock)
        github.add_repository(REPOSITORY)
        github.add_token(TOKEN)
        self.leases = [self._populate(scope, runpod, github, number) for number in range(size)]
        self.wire = _Replay(InProcess({RUNPOD: runpod.app, GITHUB: github.app}))
        plumbing = Plumbing(
            clock=self._clock,
            redactor=Redactor(),
            tempo=Tempo(),
            metrics=CallMetrics(),
            transport=self.wire,
            user_agent="runner-provisioner/benchmark",
        )
        url = f"https://{RUNPOD}/graphql"
        api = RunPodApi.connect(url=url, api_key=runpod.key, plumbing=plumbing, pace=UNPACED)
        self._providers = {"runpod": RunPodProvider(api, clock=self._clock)}
        api_url = f"https://{GITHUB}"
        self._registry = connect(scope, TokenCredential(token=TOKEN), plumbing=plumbing, api_url=api_url).runners
        self.lookout = Lookout(providers=self._providers, registry=self._registry, owner8=scope.owner8)

    def _populate(self, scope: Scope, runpod: RunPodSimulator, github: GitHubSimulator, number: int) -> Lease:
        name = f"rp-{scope.owner8}-{base36(1000 + number)}-1-default"
        tags = PodTags(owner=scope.owner8, cls=PodClass.RUNNER, repository=REPOSITORY, nonce="0" * 32)
        pod = runpod.add_pod(name, env=tags.to_env())
        github.play_runner(REPOSITORY, name, (f"rp-{number}",))
        here = PodRef("runpod", PodId(pod.id))
        return Lease(name=name, phase=Phase.BOOTING, nonce="0" * 32, pod=here, placed_at=self._clock.now())

    def reconciler(self, lease: Lease) -> Reconciler:
        """Whoever moves it along."""
        hands = Hands(providers=self._providers, registry=self._registry, clock=self._clock, events=_Deaf())
        hour = timedelta(hours=1)
        return Reconciler(
            lease,
            lookout=self.lookout,
            hands=hands,
            store=ForgetfulStore(),
            clock=self._clock,
            limits=Limits(settle=timedelta(seconds=30), boot=hour, lifetime=hour),
            polls=Polls(),
        )
