"""The ports in memory: small worlds for tests of the services alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal

from runner_provisioner.domain.events import Event
from runner_provisioner.domain.history import BadMachine, Ending, PodRecord, Refused
from runner_provisioner.domain.history import Memory as Remembered
from runner_provisioner.domain.leases import Lease, PodRef
from runner_provisioner.domain.offers import GpuRequest, Interruptible, Offer
from runner_provisioner.domain.pods import Pod, PodClass, PodId, PodSpec, PodState, PodTags
from runner_provisioner.domain.runners import Registration, Runner, RunnerDownload, RunnerId, RunnerState, RunStatus
from runner_provisioner.errors import NotFound, RunnerNameTaken, RunnerProvisionerError
from runner_provisioner.testing.clock import EPOCH, FakeClock

OWNER8 = "0123abcd"
NAME = f"rp-{OWNER8}-zz-1-default"
REQUEST = GpuRequest(models=("A",), count=1, interruptible=Interruptible.PREFER, max_price=Decimal(1))


@dataclass
class Troubles:
    """Errors in store for each verb, raised one after the other; None lets a call through."""

    errors: dict[str, list[RunnerProvisionerError | None]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    def add(self, verb: str, *errors: RunnerProvisionerError | None) -> None:
        """Queue errors."""
        self.errors.setdefault(verb, []).extend(errors)

    def meet(self, verb: str) -> None:
        """Note the call, and raise what is due."""
        self.calls.append(verb)
        queue = self.errors.get(verb)
        error = queue.pop(0) if queue else None
        if error is not None:
            raise error


def offer(model: str = "A", *, price: str = "0.5", spot: bool = False, provider: str = "fake") -> Offer:
    """An offer that fits `REQUEST`."""
    kind = "spot" if spot else "on-demand"
    return Offer(
        provider=provider,
        id=f"{model}:{kind}",
        gpu_model=model,
        gpu_count=1,
        price=Decimal(price),
        interruptible=spot,
        minimum_bid=Decimal(price) if spot else None,
    )


def pod(name: str = NAME, *, pod_id: str = "p1", provider: str = "fake", **more: object) -> Pod:
    """A pod that runs."""
    values: dict[str, object] = {"state": PodState.RUNNING, "price": Decimal("0.5"), "created_at": EPOCH, **more}
    return Pod(provider=provider, id=PodId(pod_id), name=name, **values)  # type: ignore[arg-type]


def tags(**more: object) -> PodTags:
    """What a runner's pod carries."""
    return PodTags(**{"owner": OWNER8, "cls": PodClass.RUNNER, "repository": "o/r", **more})  # type: ignore[arg-type]


class FakeProvider(Troubles):
    """Keeps the promises of GpuProvider; `stubborn` pods outlive so many terminations."""

    def __init__(self, clock: FakeClock, *offers: Offer, name: str = "fake") -> None:
        """With these offers for rent."""
        super().__init__()
        self.name = name
        self.kill_time = True
        self.pods: dict[PodId, Pod] = {}
        self.stubborn = 0
        self._number = 0
        self._clock = clock
        self._offers = offers

    async def offers(self, request: GpuRequest) -> Sequence[Offer]:
        """What is for rent."""
        self.meet("offers")
        return self._offers

    async def create(self, spec: PodSpec, offer: Offer) -> Pod:
        """Rent it."""
        self.meet("create")
        self._number += 1  # an id is never given twice
        made = pod(
            spec.name,
            pod_id=f"p{self._number}",
            provider=self.name,
            price=offer.price,
            created_at=self._clock.now(),
            tags=spec.tags,
        )
        self.pods[made.id] = made
        self.meet("created")
        return made

    async def get(self, pod_id: PodId) -> Pod | None:
        """Read one."""
        self.meet("get")
        return self.pods.get(pod_id)

    async def list(self, owner8: str | None) -> Sequence[Pod]:
        """All of an owner."""
        self.meet("list")
        return [one for one in self.pods.values() if owner8 is None or f"-{owner8}-" in one.name]

    async def terminate(self, pod_id: PodId) -> None:
        """End it."""
        self.meet("terminate")
        if self.stubborn > 0:
            self.stubborn -= 1
            return
        self.pods.pop(pod_id, None)


class PausableProvider(FakeProvider):
    """A FakeProvider whose pods can be stopped."""

    async def stop(self, pod_id: PodId) -> Pod:
        """Stop it."""
        return self._put(pod_id, PodState.STOPPED)

    async def resume(self, pod_id: PodId, *, gpu_count: int | None = None, bid_per_gpu: Decimal | None = None) -> Pod:
        """Start it again."""
        self.meet("resume")
        pod = self._put(pod_id, PodState.RUNNING)
        self.meet("resumed")
        return pod

    def _put(self, pod_id: PodId, state: PodState) -> Pod:
        if pod_id not in self.pods:
            raise NotFound("no such pod")
        self.pods[pod_id] = replace(self.pods[pod_id], state=state)
        return self.pods[pod_id]


class FakeRegistry(Troubles):
    """Keeps the promises of RunnerRegistry; `online_after` looks at a name, a runner of it is there."""

    def __init__(self, clock: FakeClock, *, online_after: int | None = 1) -> None:
        """None: no runner ever comes."""
        super().__init__()
        self.runners: dict[RunnerId, Runner] = {}
        self.online_after = online_after
        self._clock = clock
        self._looks = 0

    async def check(self) -> None:
        """Everything is permitted."""
        self.meet("check")

    async def register(self) -> Registration:
        """A token."""
        self.meet("register")
        expires = self._clock.now() + timedelta(hours=1)
        return Registration(url="https://github.com/o/r", token="AAAA-planted-token", expires_at=expires)

    async def jit_config(self, name: str, labels: Sequence[str]) -> str:
        """A configuration; its runner is registered and offline."""
        self.meet("jit_config")
        if any(one.name == name for one in self.runners.values()):
            raise RunnerNameTaken("Already exists")
        made = self.put(name, RunnerState.OFFLINE, online=False)
        self.runners[made.id] = replace(made, labels=tuple(labels))
        return f"planted-configuration-{len(self.runners)}"

    async def download(self, architecture: str = "x64") -> RunnerDownload:
        """A release."""
        self.meet("download")
        return RunnerDownload(version="2.0.0", url="https://github.com/x.tar.gz", sha256="0" * 64)

    async def find(self, name: str) -> Runner | None:
        """The runner of a name."""
        self.meet("find")
        self._looks += 1
        if self.online_after is not None and self._looks > self.online_after:
            self.online_after = None
            self.put(name)
        return next((one for one in self.runners.values() if one.name == name), None)

    def put(
        self, name: str, state: RunnerState = RunnerState.IDLE, *, online: bool = True, labels: Sequence[str] = ()
    ) -> Runner:
        """A runner appears."""
        number = RunnerId(len(self.runners) + 1)
        runner = Runner(id=number, name=name, state=state, online=online, labels=tuple(labels))
        self.runners[runner.id] = runner
        return runner

    async def get(self, runner_id: RunnerId) -> Runner | None:
        """Read one."""
        self.meet("get")
        return self.runners.get(runner_id)

    async def list(self, prefix: str = "") -> Sequence[Runner]:
        """All of a prefix."""
        self.meet("list")
        return [one for one in self.runners.values() if one.name.startswith(prefix)]

    async def remove(self, runner_id: RunnerId) -> None:
        """Delete one."""
        self.meet("remove")
        self.runners.pop(runner_id, None)


class FakeRuns(Troubles):
    """WorkflowRuns: every attempt is in the same state."""

    def __init__(self, status: RunStatus | None = RunStatus.ACTIVE) -> None:
        """None: GitHub knows no run."""
        super().__init__()
        self.status = status

    async def attempt(self, repository: str, run_id: int, attempt: int) -> RunStatus | None:
        """How far it is."""
        self.meet("attempt")
        return self.status


class Memory(Troubles):
    """A LeaseStore, and a listener to events."""

    def __init__(self) -> None:
        """Empty."""
        super().__init__()
        self.leases: list[Lease] = []
        self.events: list[Event] = []

    def save(self, lease: Lease) -> Lease:
        """Keep it."""
        self.meet("save")
        self.leases.append(lease)
        return lease

    def emit(self, event: Event) -> None:
        """Take note."""
        self.events.append(event)

    def told(self, name: str) -> list[Event]:
        """Events of one name."""
        return [event for event in self.events if event.name == name]


class FakeHistory(Troubles):
    """A History in memory; `began_at` is when it begins."""

    def __init__(self, *records: PodRecord, began_at: datetime | None = EPOCH - timedelta(days=400)) -> None:
        """With these pods remembered."""
        super().__init__()
        self.records = {(one.provider, one.id): one for one in records}
        self.refusals: list[Refused] = []
        self.machines: list[BadMachine] = []
        self.remembered = Remembered()
        self.began_at = began_at

    async def refused(self, refused: Refused) -> None:
        """An offer was not rented."""
        self.meet("refused")
        self.refusals.append(refused)

    async def rented(self, record: PodRecord) -> None:
        """A pod exists."""
        self.meet("rented")
        self.records[record.provider, record.id] = record

    async def online(self, pod: PodRef, at: datetime) -> None:
        """Its runner is online."""
        self.meet("online")
        self._change(pod, online_at=at)

    async def worked(self, pod: PodRef, began: datetime | None, ended: datetime | None) -> None:
        """When its job was."""
        self.meet("worked")
        self._change(pod, job_at=began, job_ended_at=ended)

    async def ended(self, pod: PodRef, at: datetime, ending: Ending) -> None:
        """Its end is confirmed; the first end stays."""
        self.meet("ended")
        found = self.records.get((pod.provider, pod.id))
        if found is not None and found.ended_at is None:
            self._change(pod, ended_at=at, ending=ending)

    async def bad(self, machine: BadMachine) -> None:
        """A machine is to be avoided."""
        self.meet("bad")
        self.machines.append(machine)

    async def forget(self, machine: str | None = None) -> int:
        """Its failures, or all."""
        self.meet("forget")
        gone = [one for one in self.machines if machine in {None, one.machine}]
        self.machines = [one for one in self.machines if one not in gone]
        return len({(one.provider, one.machine) for one in gone})

    async def memory(self, now: datetime) -> Remembered:
        """What ranking needs."""
        self.meet("memory")
        return replace(self.remembered, bad_machines=(*self.remembered.bad_machines, *self.machines))

    async def pods(self, since: datetime) -> Sequence[PodRecord]:
        """Those not known to have ended before."""
        self.meet("pods")
        return [one for one in self.records.values() if one.ended_at is None or one.ended_at >= since]

    async def begin(self, at: datetime) -> None:
        """What is spent is known from then on."""
        self.meet("begin")
        self.began_at = self.began_at or at

    async def began(self, since: datetime) -> datetime | None:
        """When it begins."""
        self.meet("began")
        oldest = min((one.created_at for one in self.records.values()), default=None)
        return oldest if oldest is not None and oldest <= since else self.began_at

    def _change(self, pod: PodRef, **fields: object) -> None:
        found = self.records.get((pod.provider, pod.id))
        if found is not None:
            self.records[pod.provider, pod.id] = replace(found, **fields)  # type: ignore[arg-type] # fields of a record
