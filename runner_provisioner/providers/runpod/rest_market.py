"""RunPod as a market of machines over REST v2: no bids, no price ceiling, no kill time, no balance."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from runner_provisioner.domain.markets import LogLine, PastPod, PodTemplate, TemplateSpec
from runner_provisioner.domain.offers import GpuRequest, GpuType, Interruptible, Offer
from runner_provisioner.domain.pods import Pod, PodId, PodSpec
from runner_provisioner.errors import (
    ApiRetired,
    CreateOutcomeUnknown,
    NotFound,
    OfferGone,
    OfferUnfit,
    PermissionDenied,
    RemoteError,
    TransientError,
)
from runner_provisioner.logging import Redactor, get_logger
from runner_provisioner.ports import Clock
from runner_provisioner.providers.runpod.failures import SERVICE
from runner_provisioner.providers.runpod.rest_api import RestApi, total
from runner_provisioner.providers.runpod.rest_logs import LogReader
from runner_provisioner.providers.runpod.rest_offers import rest_offers
from runner_provisioner.providers.runpod.rest_requests import create_input, template_input
from runner_provisioner.providers.runpod.rest_states import to_pod
from runner_provisioner.providers.runpod.rest_wire import RestBill, RestPod, RestTemplate
from runner_provisioner.providers.runpod.resuming import no_such_pod
from runner_provisioner.providers.runpod.routes import no_spot
from runner_provisioner.providers.runpod.states import PROVIDER

HISTORY = timedelta(days=30)
_PRICE_LOOKS = 3
_PRICE_PAUSE = 1.0  # seconds
_ROUNDING = Decimal("0.0001")  # REST v2 tells prices as floats
_FEW = 8  # pods: a look at them one by one fits into the 60 requests a minute

log = get_logger(__name__)


class RestMarket:
    """The provider's verbs as REST v2 can do them."""

    def __init__(self, rest: RestApi, *, clock: Clock, stopped: set[str], redactor: Redactor) -> None:
        """`stopped` holds the ids of pods that this program stopped, so that their EXITED is no interruption."""
        self._rest = rest
        self._clock = clock
        self._stopped = stopped
        self._redactor = redactor

    async def aclose(self) -> None:
        """Give the connections back."""
        await self._rest.aclose()

    async def offers(self, request: GpuRequest, models: Sequence[GpuType]) -> Sequence[Offer]:
        """All on demand; see the port."""
        return await rest_offers(self._rest, request, models)

    async def create(self, spec: PodSpec, offer: Offer) -> Pod:
        """Rent at the market's price, and end the pod at once when that is more than the offer's.

        Raises OfferUnfit when the pod needs a kill time, OfferGone when it costs more, and what the port's create does.
        """
        if offer.interruptible:
            raise no_spot()
        if spec.needs_kill_time:
            raise OfferUnfit("RunPod's REST v2 ends no pod by itself, and this one needs a kill time")
        chosen = offer if offer.cloud else await self._as_sold(spec, offer)
        made = await self._rest.create_pod(lambda whole: create_input(spec, chosen, whole_command=whole))
        pod = self._pod(made)
        if pod is None:
            message = f"RunPod ended pod {made.id} at once: look '{spec.name}' up before renting again"
            raise CreateOutcomeUnknown(message, service=SERVICE, operation="createPod")
        log.info("pod_rented", provider=PROVIDER, pod_id=pod.id, pod=spec.name)
        return await self._at_price(pod, offer)

    async def _as_sold(self, spec: PodSpec, offer: Offer) -> Offer:
        """An offer that GraphQL made, in a cloud and a place that REST v2 sells at that price."""
        request = GpuRequest(
            models=(offer.gpu_model,),
            count=offer.gpu_count,
            interruptible=Interruptible.NEVER,
            max_price=offer.price,
            cloud=spec.cloud,
            regions=(offer.region,) if offer.region else (),
            cuda=spec.cuda,
            network_volume=spec.network_volume,
        )
        model = GpuType(id=offer.gpu_model, name=offer.gpu_model, memory_gb=0, secure=True, community=True)
        found = await rest_offers(self._rest, request, [model])
        fitting = [one for one in found if one.price <= offer.price + _ROUNDING]
        if not fitting:
            message = f"RunPod's REST v2 has no {offer.gpu_count} x {offer.gpu_model} at {offer.price} USD/h: ask again"
            raise OfferGone(message, service=SERVICE, operation="createPod")
        best = min(fitting, key=lambda one: one.price)
        return replace(offer, cloud=best.cloud, region=best.region)

    async def _at_price(self, pod: Pod, offer: Offer) -> Pod:
        for _ in range(_PRICE_LOOKS):
            if pod.price is not None:
                break
            await self._clock.sleep(_PRICE_PAUSE)
            try:
                pod = await self.get(pod.id) or pod
            except RemoteError as error:
                log.warning("pod_price_not_told", pod_id=pod.id, reason=str(error))
        if pod.price is None or pod.price <= offer.price + _ROUNDING:
            return pod
        return await self._give_back(pod, offer)

    async def _give_back(self, pod: Pod, offer: Offer) -> Pod:
        message = f"RunPod asks {pod.price} USD/h for {offer.gpu_count} x {offer.gpu_model}, offered at {offer.price}"
        try:
            await self.terminate(pod.id)
        except RemoteError as error:
            log.warning("pod_not_given_back", pod_id=pod.id, reason=str(error))
            # Who looks it up by its name finds its price above the cap, and ends it.
            unknown = f"{message}, and pod {pod.id} could not be ended: look '{pod.name}' up before renting again"
            raise CreateOutcomeUnknown(unknown, service=SERVICE, operation="createPod") from error
        raise OfferGone(f"{message}: it was given back", service=SERVICE, operation="createPod")

    async def get(self, pod_id: PodId) -> Pod | None:
        """See the port."""
        found = await self._rest.pod(pod_id)
        return self._pod(found) if found else None

    async def get_many(self, pod_ids: Sequence[PodId]) -> Mapping[PodId, Pod | None]:
        """See ReadsMany: a few, and those that the list does not show, one by one.

        A list may still show a pod that is gone. A start, which would yield to it, looks at few; to end many at once it
        costs no more than another look.
        """
        listed = {pod.id: pod for pod in await self._rest.pods()} if len(pod_ids) > _FEW else {}
        found: dict[PodId, Pod | None] = {}
        for pod_id in pod_ids:
            row = listed.get(pod_id)
            found[pod_id] = self._pod(row) if row else await self.get(pod_id)
        return found

    async def list(self) -> Sequence[Pod]:
        """Every pod of the account."""
        return [pod for pod in map(self._pod, await self._rest.pods()) if pod]

    async def terminate(self, pod_id: PodId) -> None:
        """End it; raises NotFound when it is gone already."""
        await self._rest.delete_pod(pod_id)

    async def stop(self, pod_id: PodId) -> Pod:
        """See Pausable."""
        stopped = await self._rest.act(pod_id, "stop")
        self._stopped.add(pod_id)
        return self._pod(stopped) or no_such_pod(pod_id, "podAction")

    async def resume(self, pod_id: PodId) -> Pod:
        """See Pausable; with as many GPUs as it had."""
        started = await self._rest.act(pod_id, "start")
        self._stopped.discard(pod_id)
        return self._pod(started) or no_such_pod(pod_id, "podAction")

    async def gpu_types(self) -> Sequence[GpuType]:
        """See HasGpuTypes."""
        return [
            GpuType(
                id=gpu.id,
                name=gpu.name or gpu.id,
                memory_gb=gpu.memory or 0,
                secure=bool(gpu.secure),
                community=bool(gpu.community),
            )
            for gpu in await self._rest.gpu_types()
        ]

    async def ssh_keys(self) -> Sequence[str]:
        """See HasAccountKeys."""
        return [key.strip() for key in await self._rest.ssh_keys() if key.strip()]

    async def billed(self, pods: Sequence[PodId], since: datetime) -> Mapping[PodId, Decimal]:
        """See BillsPerPod; counts from the full hour before `since`. A key that may not see bills tells nothing."""
        try:
            bills = total(await self._rest.pod_bills(since))
        except (PermissionDenied, ApiRetired) as error:
            log.warning("runpod_bills_not_told", reason=str(error))
            return {}
        return {pod_id: bills[pod_id] for pod_id in pods if pod_id in bills}

    async def history(self, *, limit: int = 100) -> Sequence[PastPod]:
        """See HasHistory: RunPod remembers of an ended pod what it was billed, by the day, here for a month."""
        bills = await self._rest.pod_bills(self._clock.now() - HISTORY, bucket="day")
        there = {pod.id for pod in await self.list()}
        costs = total(bills)
        ends = _last_days([bill for bill in bills if bill.pod_id not in there])
        latest = sorted(ends, key=lambda pod_id: ends[pod_id], reverse=True)
        return [PastPod(provider=PROVIDER, id=PodId(pod_id), cost=costs[pod_id]) for pod_id in latest[:limit]]

    async def templates(self) -> Sequence[PodTemplate]:
        """See HasTemplates; those for workers are left out."""
        return [_template(row) for row in await self._rest.templates() if not row.serverless]

    async def create_template(self, spec: TemplateSpec) -> PodTemplate:
        """See HasTemplates; usable at once. RunPod has none that go with their pod."""
        return _template(await self._rest.create_template(template_input(spec)))

    async def delete_template(self, template_id: str) -> None:
        """See HasTemplates."""
        try:
            await self._rest.delete_template(template_id)
        except NotFound:
            log.debug("template_gone_already", template_id=template_id)

    def logs(self, pod_id: PodId, *, tail: int | None = None, follow: bool = False) -> AsyncIterator[LogLine]:
        """See HasLogs."""

        async def ended() -> bool:
            try:
                pod = await self.get(pod_id)
            except TransientError:
                return False  # the next look at the log tells
            return pod is None or not pod.alive

        reader = LogReader(self._rest, clock=self._clock, redact=self._redactor.redact, ended=ended)
        return reader.lines(pod_id, tail=tail, follow=follow)

    def _pod(self, pod: RestPod) -> Pod | None:
        return to_pod(pod, asked_to_stop=self._stopped)


def _last_days(bills: Sequence[RestBill]) -> dict[str, datetime]:
    ends: dict[str, datetime] = {}
    for bill in bills:
        if bill.end_time is not None:
            ends[bill.pod_id] = max(bill.end_time, ends.get(bill.pod_id, bill.end_time))
    return ends


def _template(row: RestTemplate) -> PodTemplate:
    return PodTemplate(provider=PROVIDER, id=row.id, name=row.name, image=row.image)
