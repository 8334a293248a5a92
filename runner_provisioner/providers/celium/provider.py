"""Lium (formerly Celium) as a market of machines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from runner_provisioner.domain.markets import LeftTemplate, LogLine, PodTemplate, TemplateSpec
from runner_provisioner.domain.offers import GpuRequest, GpuType, Offer
from runner_provisioner.domain.pods import Pod, PodClass, PodId, PodSpec, PodState, PodTags, SshEndpoint
from runner_provisioner.errors import (
    CreateOutcomeUnknown,
    InvalidRequest,
    NotFound,
    OfferGone,
    OfferUnfit,
    RemoteError,
    TransientError,
)
from runner_provisioner.logging import get_logger
from runner_provisioner.ports import Clock
from runner_provisioner.providers.celium.api import CeliumApi, Rented
from runner_provisioner.providers.celium.ends import End, EndKind, end_of
from runner_provisioner.providers.celium.failures import SERVICE
from runner_provisioner.providers.celium.logs import LogReader
from runner_provisioner.providers.celium.offers import kinds, market
from runner_provisioner.providers.celium.renting import Renting
from runner_provisioner.providers.celium.states import PROVIDER, is_deleting, is_over, state_of
from runner_provisioner.providers.celium.templates import Templates
from runner_provisioner.providers.celium.wire import WirePod, malformed

GRACE = 20.0  # seconds in which a new pod may not be listed yet (lium.io 0.32.0)
_ROUNDING = Decimal("0.0001")  # prices are told as floats
_FEW = 8  # pods: a look at them one by one fits into the 60 looks a minute

log = get_logger(__name__)


class CeliumProvider:
    """Keeps the promises of GpuProvider and of the capabilities that Lium has: all but stopping, bills and history.

    It remembers for its own lifetime which pods it ended, so that their end is no interruption, and which it has rented
    within the last 20 seconds, which Lium may not show yet.
    """

    name = PROVIDER

    def __init__(self, api: CeliumApi, *, clock: Clock) -> None:
        self._api = api
        self._clock = clock
        self._templates = Templates(api, clock=clock)
        self._renting = Renting(api, self._templates, clock=clock)
        self._ended: set[str] = set()
        self._new: dict[str, tuple[Pod, float]] = {}
        self._seen: dict[str, Pod] = {}

    def __repr__(self) -> str:
        return f"CeliumProvider({self._api.url})"

    async def aclose(self) -> None:
        """Give the connections back."""
        await self._api.aclose()

    @property
    def kill_time(self) -> bool:
        """See HasKillTime: always."""
        return True

    async def offers(self, request: GpuRequest) -> Sequence[Offer]:
        """See the port. A spot node's price is its floor, since nobody bids; the id is the node's."""
        return await market(self._api, request)

    async def create(self, spec: PodSpec, offer: Offer) -> Pod:
        """See the port. The same spec and offer rent once until the outcome is known, also from another process.

        Raises OfferGone when the node asks for more than the offer, and OfferUnfit when it takes no kill time though
        the pod needs one; the pod has been given back then.
        """
        rented = await self._renting.rent(spec, offer)
        pod = await self._first_look(rented, spec, offer)
        log.info("pod_rented", provider=PROVIDER, pod_id=pod.id, pod=spec.name)
        if spec.terminate_after is not None:
            await self._set_end(pod, spec)
        if pod.price is not None and pod.price > offer.price + _ROUNDING:
            why = f"Lium asks {pod.price} USD/h for {offer.gpu_count} x {offer.gpu_model}, offered at {offer.price}"
            await self._give_back(pod, why)
            raise OfferGone(f"{why}: it was given back", service=SERVICE, operation="rentExecutor")
        return pod

    async def _first_look(self, rented: Rented, spec: PodSpec, offer: Offer) -> Pod:
        """The pod as Lium tells it, else as it was asked for: it may take a while to be listed."""
        new = Pod(
            provider=PROVIDER,
            id=PodId(rented.pod_id),
            name=spec.name,
            state=PodState.STARTING,
            price=offer.price,
            created_at=self._clock.now(),
            tags=spec.tags,
            image=spec.image or None,
            gpu_model=offer.gpu_model,
            gpu_count=offer.gpu_count,
            interruptible=offer.interruptible,
            machine=offer.id,
            status="requested",
        )
        row = rented.pod
        if row is None:
            try:
                row = await self._api.pod(new.id)
            except RemoteError as error:  # it is rented, whatever a look at it says
                log.warning("pod_not_seen_yet", pod_id=new.id, reason=str(error))
        told = await self._pod(row) if row is not None else None
        self._new[new.id] = (
            new,
            self._clock.monotonic(),
        )  # that the rent's answer shows it does not mean that a read does
        if told is None:
            return new
        return replace(told, price=told.price or new.price, created_at=told.created_at or new.created_at)

    async def _set_end(self, pod: Pod, spec: PodSpec) -> None:
        """Say the exact moment; the rent has said it in hours. Both failing ends a pod that needs a kill time."""
        assert spec.terminate_after is not None  # noqa: S101 - asked for
        try:
            await self._api.schedule_removal(pod.id, spec.terminate_after)
        except (RemoteError, InvalidRequest) as error:
            log.warning("pod_end_not_scheduled", pod_id=pod.id, reason=str(error))
            if spec.needs_kill_time and not await self._has_end(pod):
                await self._give_back(pod, "Lium took no kill time")
                raise OfferUnfit(f"Lium took no kill time for pod {pod.id}: it was given back ({error})") from error

    async def end_at(self, pod_id: PodId, at: datetime) -> None:
        """See MovesKillTime."""
        await self._api.schedule_removal(pod_id, at)

    async def _has_end(self, pod: Pod) -> bool:
        try:
            row = await self._api.pod(pod.id)
        except RemoteError:
            return False
        return row is not None and row.removal_scheduled_at is not None

    async def _give_back(self, pod: Pod, why: str) -> None:
        try:
            await self.terminate(pod.id)
        except RemoteError as error:
            log.warning("pod_not_given_back", pod_id=pod.id, reason=str(error))
            unknown = f"{why}, and pod {pod.id} could not be ended: look '{pod.name}' up before renting again"
            raise CreateOutcomeUnknown(unknown, service=SERVICE, operation="rentExecutor") from error

    async def get(self, pod_id: PodId) -> Pod | None:
        """See the port. One that its node's provider took is INTERRUPTED, with the reason, until it is terminated."""
        row = await self._api.pod(pod_id)
        return await self._pod(row) if row is not None else await self._missing(pod_id)

    async def get_many(self, pod_ids: Sequence[PodId]) -> Mapping[PodId, Pod | None]:
        """See ReadsMany: a few, and those that the list does not show, one by one.

        A list may still show a pod that is gone. A start, which would yield to it, looks at few; to end many at once it
        costs no more than another look.
        """
        listed = {row.id: row for row in await self._api.pods()} if len(pod_ids) > _FEW else {}
        return {
            pod_id: await self._pod(listed[pod_id]) if pod_id in listed else await self.get(pod_id)
            for pod_id in pod_ids
        }

    async def list(self, owner8: str | None) -> Sequence[Pod]:
        """See the port."""
        rows = await self._api.pods()
        pods = [pod for row in rows if (pod := await self._pod(row)) is not None]
        pods += [new for row_id in list(self._new) if (new := self._unlisted(row_id)) is not None]
        return pods if owner8 is None else [pod for pod in pods if _belongs(pod, owner8)]

    async def terminate(self, pod_id: PodId) -> None:
        """See the port."""
        try:
            await self._api.delete_pod(pod_id)
        except NotFound:
            log.debug("pod_gone_already", pod_id=pod_id)
        self._ended.add(pod_id)
        self._new.pop(pod_id, None)
        self._seen.pop(pod_id, None)

    async def balance(self) -> Decimal:
        """See HasBalance."""
        found = (await self._api.account()).balance
        if found is None:
            raise malformed("getUser", "no balance")
        return found

    async def gpu_types(self) -> Sequence[GpuType]:
        """See HasGpuTypes."""
        return await kinds(self._api)

    async def ssh_keys(self) -> Sequence[str]:
        """See HasAccountKeys."""
        return [key.strip() for key in await self._api.ssh_keys() if key.strip()]

    async def ssh_endpoint(self, pod_id: PodId) -> SshEndpoint | None:
        """See HasSshEndpoint. Lium runs sshd in the pod; its host key is the one that is seen first."""
        pod = await self.get(pod_id)
        if pod is None:
            message = f"Lium has no pod '{pod_id}': look the id up in the list of pods"
            raise NotFound(message, service=SERVICE, operation="getPod", code="NOT_FOUND")
        return pod.ssh

    def logs(self, pod_id: PodId, *, tail: int | None = None, follow: bool = False) -> AsyncIterator[LogLine]:
        """See HasLogs; without moments, and looked at every few seconds."""

        async def ended() -> bool:
            try:
                pod = await self.get(pod_id)
            except TransientError:
                return False  # the next look at the log tells
            return pod is None or not pod.alive

        reader = LogReader(self._api, clock=self._clock, redact=self._api.redactor.redact, ended=ended)
        return reader.lines(pod_id, tail=tail, follow=follow)

    async def templates(self) -> Sequence[PodTemplate]:
        """See HasTemplates."""
        return await self._templates.all()

    async def left_templates(self, owner8: str) -> Sequence[LeftTemplate]:
        """See LeavesTemplates: a start that died between its template and its rent."""
        return await self._templates.left(owner8)

    async def create_template(self, spec: TemplateSpec, *, wait: bool = True) -> PodTemplate:
        """See HasTemplates."""
        return await self._templates.create(spec, wait=wait)

    async def delete_template(self, template_id: str) -> None:
        """See HasTemplates. Where the API removes none it is emptied, renamed and listed no more."""
        await self._templates.delete(template_id)

    # -- what a row says

    async def _pod(self, row: WirePod) -> Pod | None:
        """The pod in words that hold for every provider; None = it is gone."""
        pod_id = PodId(row.id)
        self._new.pop(pod_id, None)
        tags = PodTags.from_env(await self._templates.environment(row.template))
        end = await self._end(row)
        endpoint = row.endpoint()
        asked = pod_id in self._ended or _was_wanted(end, tags)
        state = state_of(row.status, reachable=endpoint is not None, asked=asked)
        if state is None:
            return None
        if state is PodState.INTERRUPTED and end.kind is EndKind.MONEY:
            state = PodState.FAILED
        pod = _told(row, state, tags, endpoint, end)
        self._seen[pod_id] = pod
        return pod

    async def _missing(self, pod_id: PodId) -> Pod | None:
        """A pod that Lium does not show: not yet, taken away (its events tell why), or gone."""
        if pod_id in self._ended:
            return None
        end, new = await self._why(pod_id), self._unlisted(pod_id)
        if new is not None and end.kind is None:
            return new
        if end.kind not in {EndKind.TAKEN, EndKind.MONEY}:
            return None
        last = self._seen.get(pod_id) or Pod(
            provider=PROVIDER, id=pod_id, name=end.pod_name, state=PodState.INTERRUPTED, status="REMOVED"
        )
        state = PodState.INTERRUPTED if end.kind is EndKind.TAKEN else PodState.FAILED
        return replace(last, state=state, ssh=None, detail=end.text)

    async def _end(self, row: WirePod) -> End:
        """Why it ended, if it did; of one that failed the reason is for people alone."""
        if not is_over(row.status):
            return End()
        try:
            return await self._why(PodId(row.id))
        except TransientError:
            if state_of(row.status, reachable=False, asked=False) is not PodState.FAILED:
                raise
            return End()

    async def _why(self, pod_id: PodId) -> End:
        try:
            return end_of(await self._api.events(pod_id))
        except TransientError:
            raise
        except RemoteError as error:
            log.debug("celium_events_unreadable", pod_id=pod_id, reason=str(error))
            return End()

    def _unlisted(self, pod_id: str) -> Pod | None:
        """One of our own that may not be listed yet."""
        new, since = self._new.get(pod_id, (None, 0.0))
        if new is not None and self._clock.monotonic() - since > GRACE:
            del self._new[pod_id]
            return None
        return new


def _was_wanted(end: End, tags: PodTags | None) -> bool:
    """Where nothing tells whose doing an end was: a runner's pod is ended by us alone, one made by hand by its user."""
    if end.kind is not None:
        return end.kind is EndKind.WANTED
    return tags is None or tags.cls is not PodClass.RUNNER


def _told(row: WirePod, state: PodState, tags: PodTags | None, ssh: SshEndpoint | None, end: End) -> Pod:
    node = row.executor
    return Pod(
        provider=PROVIDER,
        id=PodId(row.id),
        name=row.pod_name or "",
        state=state,
        price=row.price,
        created_at=row.created_at,
        tags=tags,
        image=row.template.image if row.template else None,
        gpu_model=row.gpu_name or (node.machine_name if node else None),
        gpu_count=row.gpu_count,
        interruptible=node.interruptible if node else None,
        ssh=ssh if state is PodState.RUNNING else None,
        deleting=end.kind is None and is_deleting(row.status),
        machine=row.executor_id or (node.id if node else None),
        public_ports=row.ports() if state is PodState.RUNNING else (),
        hardware=row.hardware(),
        status=row.status or "",
        detail=end.text or row.phase or "",
    )


def _belongs(pod: Pod, owner8: str) -> bool:
    if pod.tags is not None:
        return pod.tags.owner == owner8  # a name can be anybody's choice
    return pod.name.startswith((f"rp-{owner8}-", f"rpm-{owner8}-"))
