"""Pods made by hand: RunPod's own fields in, RunPod's own shape out, with an owner and an end."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from runner_provisioner.domain.names import manual_name
from runner_provisioner.domain.pods import PodClass, PodId, PodState, PodTags
from runner_provisioner.errors import BidTooLow, CreateOutcomeUnknown, InvalidRequest, RemoteError
from runner_provisioner.ports import Clock
from runner_provisioner.providers.runpod.api import RunPodApi
from runner_provisioner.providers.runpod.failures import SERVICE
from runner_provisioner.providers.runpod.inputs import (
    DeployInput,
    OnDemandInput,
    PriceInput,
    RentInput,
    StopInput,
    build,
    named,
)
from runner_provisioner.providers.runpod.moments import stamp
from runner_provisioner.providers.runpod.provider import RunPodProvider
from runner_provisioner.providers.runpod.raw_rest import RawRest
from runner_provisioner.providers.runpod.resuming import no_such_pod, resume
from runner_provisioner.providers.runpod.routes import Verb
from runner_provisioner.providers.runpod.states import state_of
from runner_provisioner.providers.runpod.wire import WireGpuType, WirePod, WirePrice

LIFETIME = timedelta(hours=24)
_DEFAULTS: Mapping[str, object] = {
    "gpu_count": 1,
    "cloud_type": "ALL",
    "container_disk_in_gb": 40,
    "volume_in_gb": 0,
    "volume_mount_path": "/workspace",
    "ports": "22/tcp",
    "min_vcpu_count": 1,
    "min_memory_in_gb": 4,
    "start_ssh": True,
}


class RawPods:
    """The verbs of the library, on dictionaries in RunPod's camelCase.

    Beside RunPod's own fields a pod has `status` (starting, running, interrupted, stopped or failed) and
    `terminateAfter`, when it ends by itself (over REST v2, which has no such field, clean-up ends it then).
    `desiredStatus` is RunPod's, save that a stopped pod says STOPPED where RunPod says EXITED; `runtime` is an empty
    map, never null, while there is no container.
    """

    def __init__(
        self,
        api: RunPodApi,
        provider: RunPodProvider,
        *,
        clock: Clock,
        letters: Callable[[], str],
        owner8: str,
        settle: float,
    ) -> None:
        """`letters` gives as many as a name needs; `settle` is how many seconds a list may lack what is new."""
        self._api = api
        self._provider = provider
        self._routes = provider.routes
        self._rest = RawRest(api.rest, provider.rest)
        self._clock = clock
        self._letters = letters
        self._owner8 = owner8
        self._settle = settle
        self._stopped: set[str] = set()

    async def create(self, given: Mapping[str, object], *, lifetime: timedelta | None = LIFETIME) -> dict[str, Any]:
        """Rent a pod: at a bid when `bid_per_gpu` is given, else on demand.

        Fields are taken under their names on the wire or in Python. `lifetime` None lets the pod live for ever; a
        `terminate_after` among the fields wins. When the answer is lost, the pod is looked for twice, `settle` apart,
        and returned when it exists. Raises InvalidRequest, UnknownGpu, BidTooLow and what the port's create raises.
        """
        model = RentInput if any(name in given for name in ("bid_per_gpu", "bidPerGpu")) else OnDemandInput
        fields = {**_DEFAULTS, **{name: value for name, value in named(model, given).items() if value is not None}}
        expires_at = self._expiry(model, fields, lifetime)
        fields["terminate_after"] = expires_at
        fields["name"] = fields.get("name") or self._name(expires_at)
        pod = build(model, {**fields, **await self._completed(build(model, fields), expires_at)})
        try:
            rented = await self._rent(pod)
        except CreateOutcomeUnknown as error:
            rented = await self._look_for(pod, error)
        return {**show(rented), "terminateAfter": expires_at and stamp(expires_at)}

    async def get(self, pod_id: str) -> dict[str, Any]:
        """Read one; raises NotFound."""
        pod = await self._routes.serve(
            Verb.READ, graphql=lambda: self._api.pod(pod_id), rest=lambda: self._rest.pod(pod_id)
        ) or no_such_pod(pod_id, "pod")
        return self._show(pod) or no_such_pod(pod_id, "pod")

    async def list(self) -> Sequence[dict[str, Any]]:
        """All of the account."""
        return [shown for shown in map(self._show, await self._my_pods()) if shown]

    async def stop(self, pod_id: str) -> dict[str, Any]:
        """Stop it; its volume goes on billing. Raises NotFound."""
        pod = await self._routes.serve(
            Verb.STOP,
            graphql=lambda: self._api.pod_stop(StopInput(pod_id=pod_id)),
            rest=lambda: self._rest.stop(pod_id),
        )
        self._stopped.add(pod_id)
        return self._show(pod) or no_such_pod(pod_id, "podStop")

    async def resume(
        self, pod_id: str, *, gpu_count: int | None = None, bid_per_gpu: Decimal | None = None
    ) -> dict[str, Any]:
        """Start it again, as a bid when `bid_per_gpu` is given. Raises NotFound, CapacityUnavailable."""

        async def by_graphql() -> WirePod:
            return await resume(self._api, pod_id, gpu_count=gpu_count, bid_per_gpu=bid_per_gpu)

        if bid_per_gpu is not None:
            pod = await self._routes.only_graphql(Verb.BID_RESUME, by_graphql)
        else:
            pod = await self._routes.serve(
                Verb.RESUME, graphql=by_graphql, rest=lambda: self._rest.resume(pod_id, gpu_count)
            )
        self._stopped.discard(pod_id)
        return self._show(pod) or no_such_pod(pod_id, "podResume")

    async def terminate(self, pod_id: str) -> dict[str, Any]:
        """End it for good; gone already is success."""
        await self._provider.terminate(PodId(pod_id))
        return {"success": True, "podId": pod_id}

    async def gpu_types(self, gpu_count: int = 1) -> Sequence[dict[str, Any]]:
        """Every GPU model with its lowest price for that many."""
        found = await self._routes.serve(
            Verb.OFFERS,
            graphql=lambda: self._api.gpu_prices(PriceInput(gpu_count=gpu_count)),
            rest=lambda: self._rest.gpu_prices(gpu_count),
        )
        return [gpu.model_dump(mode="json", by_alias=True) for gpu in found]

    def _show(self, pod: WirePod) -> dict[str, Any] | None:
        return show(pod, asked_to_stop=self._stopped) if state_of(pod) else None

    def _expiry(
        self, model: type[DeployInput], fields: Mapping[str, object], lifetime: timedelta | None
    ) -> datetime | None:
        told = build(model, {"terminate_after": fields.get("terminate_after")}).terminate_after
        return told or (self._clock.now() + lifetime if lifetime else None)

    def _name(self, expires_at: datetime | None) -> str:
        return manual_name(self._owner8, expires_at or self._clock.now() + LIFETIME, self._letters())

    async def _completed(self, pod: DeployInput, expires_at: datetime | None) -> dict[str, object]:
        """What the fields leave open: the model's id, the owner's tags, a public address."""
        if not pod.image_name and not pod.template_id:
            raise InvalidRequest("a pod needs an image: give image_name or template_id")
        found: dict[str, object] = {"env": {**_environment(pod), **self._tags(expires_at)}}
        if pod.gpu_type_id:
            [gpu] = await self._provider.resolve([pod.gpu_type_id])
            found["gpu_type_id"] = gpu.id
            await self._check_bid(pod, gpu.id)
        if pod.support_public_ip is None and pod.cloud_type != "SECURE" and "/tcp" in (pod.ports or ""):
            found["support_public_ip"] = True  # community hosts have a public address only when asked (docs)
        return found

    async def _check_bid(self, pod: DeployInput, gpu_type_id: str) -> None:
        # RunPod has no message for a bid under the market: it says "no stock" (reference of the errors).
        if not isinstance(pod, RentInput) or pod.bid_per_gpu is None:
            return
        count = pod.gpu_count or 1
        prices = await self._routes.only_graphql(
            Verb.BID, lambda: self._api.gpu_prices_of([gpu_type_id], PriceInput(gpu_count=count))
        )
        minimum = _minimum_bid(prices)
        if minimum is not None and Decimal(str(pod.bid_per_gpu)) * count < minimum:
            raise BidTooLow(
                f"a bid of {pod.bid_per_gpu} USD/h per GPU is below RunPod's minimum of {minimum} USD/h for {count} x"
                f" {gpu_type_id}: raise the bid",
                service=SERVICE,
                operation="podRentInterruptable",
                code="BID_TOO_LOW",
            )

    def _tags(self, expires_at: datetime | None) -> dict[str, str]:
        # The nonce tells this pod from an older one of the same name.
        tags = PodTags(owner=self._owner8, cls=PodClass.MANUAL, nonce=self._nonce(), expires_at=expires_at)
        return tags.to_env()

    def _nonce(self) -> str:
        return self._letters() + self._letters() + self._letters()

    async def _look_for(self, asked: DeployInput, error: CreateOutcomeUnknown) -> WirePod:
        for pause in (0.0, self._settle):
            await self._clock.sleep(pause)
            try:
                pods = await self._my_pods()
            except RemoteError:
                continue  # what is told is that the outcome is unknown, with the pod's name
            for pod in pods:
                if (
                    state_of(pod)
                    and pod.name == asked.name
                    and _nonce_of(pod.environment()) == _nonce_of(_environment(asked))
                ):
                    return pod
        raise error

    async def _rent(self, pod: DeployInput) -> WirePod:
        if isinstance(pod, RentInput):
            bid = pod
            return await self._routes.only_graphql(Verb.BID, lambda: self._api.pod_rent_interruptable(bid))
        assert isinstance(pod, OnDemandInput)  # noqa: S101 - there are two
        wanted = pod
        return await self._routes.serve(
            Verb.RENT_ENDING if pod.terminate_after else Verb.RENT,
            graphql=lambda: self._api.pod_find_and_deploy_on_demand(wanted),
            rest=lambda: self._rest.create(wanted),
        )

    async def _my_pods(self) -> tuple[WirePod, ...]:
        return await self._routes.serve(Verb.READ, graphql=self._api.my_pods, rest=self._rest.my_pods)


def show(pod: WirePod, *, asked_to_stop: Container[str] = ()) -> dict[str, Any]:
    """A pod in RunPod's shape, with our `status` and its `terminateAfter`."""
    state = state_of(pod, asked_to_stop=asked_to_stop)
    tags = PodTags.from_env(pod.environment())
    shown = pod.model_dump(mode="json", by_alias=True)
    shown["runtime"] = shown["runtime"] or {}
    shown["status"] = state.value if state else "terminated"
    shown["terminateAfter"] = stamp(tags.expires_at) if tags and tags.expires_at else None
    if state is PodState.STOPPED:
        shown["desiredStatus"] = "STOPPED"
    return shown


def _environment(pod: DeployInput) -> dict[str, str]:
    return {pair.key: pair.value for pair in pod.env or ()}


def _nonce_of(environment: Mapping[str, str]) -> str | None:
    tags = PodTags.from_env(environment)
    return tags.nonce if tags else None


def _minimum_bid(prices: Sequence[WireGpuType]) -> Decimal | None:
    price = next((gpu.lowest_price for gpu in prices), None) or WirePrice()
    return price.minimum_bid_price
