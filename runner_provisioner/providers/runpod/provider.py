"""RunPod as a market of machines: its verbs, each served by the API that `routes` chooses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from runner_provisioner.domain.markets import LogLine, PastPod, PodTemplate, TemplateSpec
from runner_provisioner.domain.offers import GpuRequest, GpuType, Interruptible, Offer
from runner_provisioner.domain.pods import Pod, PodId, PodSpec, SshEndpoint
from runner_provisioner.errors import InvalidRequest, NotFound
from runner_provisioner.logging import get_logger
from runner_provisioner.ports import Clock
from runner_provisioner.providers.runpod.api import RunPodApi
from runner_provisioner.providers.runpod.gpu_cache import GpuCache
from runner_provisioner.providers.runpod.gpu_models import GpuModels
from runner_provisioner.providers.runpod.graphql_market import GraphQLMarket
from runner_provisioner.providers.runpod.requests import rent_input
from runner_provisioner.providers.runpod.rest_market import RestMarket
from runner_provisioner.providers.runpod.resuming import no_such_pod
from runner_provisioner.providers.runpod.routes import Api, Routes, Verb
from runner_provisioner.providers.runpod.states import PROVIDER

log = get_logger(__name__)


class RunPodProvider:
    """Keeps the promises of GpuProvider and of every capability in `ports`, as far as the APIs that are left can.

    It remembers for its own lifetime which pods it stopped, so that their EXITED is no interruption; what it learns
    of the APIs (see `routes`) other processes learn from the cache folder.
    """

    name = PROVIDER

    def __init__(
        self, api: RunPodApi, *, clock: Clock, cache_dir: Path | None = None, prefer: Api = Api.GRAPHQL
    ) -> None:
        """`cache_dir` keeps what is known of GPU models and APIs; None keeps nothing. `prefer` is for what both do."""
        self._api = api
        self.routes = Routes(url=api.url, clock=clock, folder=cache_dir, prefer=prefer)
        self._stopped: set[str] = set()
        self._graphql = GraphQLMarket(api, stopped=self._stopped)
        self.rest = RestMarket(api.rest, clock=clock, stopped=self._stopped, redactor=api.redactor)
        self._models = GpuModels(GpuCache(cache_dir, url=api.url, clock=clock), self._fetch_gpu_types)

    def __repr__(self) -> str:
        return f"RunPodProvider({self._api.url})"

    async def aclose(self) -> None:
        """Give the connections back."""
        await self._api.aclose()

    @property
    def kill_time(self) -> bool:
        """See HasKillTime: only while GraphQL answers."""
        return self.routes.kill_time

    @property
    def ends_from_inside(self) -> bool:
        """See EndsFromInside: by the key that RunPod gives each pod for itself alone."""
        return True

    async def offers(self, request: GpuRequest) -> Sequence[Offer]:
        """See the port. Interruptible ones are left out once RunPod has refused one, unless they are required."""
        models = await self._models.wanted(request)
        found = await self.routes.serve(
            Verb.OFFERS,
            graphql=lambda: self._graphql.offers(request, models),
            rest=lambda: self.rest.offers(request, models),
        )
        if self.routes.spot_gone and request.interruptible is not Interruptible.REQUIRE:
            return [offer for offer in found if not offer.interruptible]
        return found

    async def create(self, spec: PodSpec, offer: Offer) -> Pod:
        """See the port. The price of an interruptible offer is the bid for the whole pod."""
        if offer.interruptible:
            rent_input(spec, offer)  # a bid that cannot win is told as such, whoever would have refused it
            return await self.routes.only_graphql(Verb.BID, lambda: self._graphql.bid(spec, offer))
        return await self.routes.serve(
            Verb.RENT_ENDING if spec.terminate_after or spec.needs_kill_time else Verb.RENT,
            graphql=lambda: self._graphql.rent(spec, offer),
            rest=lambda: self.rest.create(spec, offer),
        )

    async def get(self, pod_id: PodId) -> Pod | None:
        """See the port."""
        return await self.routes.serve(
            Verb.READ, graphql=lambda: self._graphql.get(pod_id), rest=lambda: self.rest.get(pod_id)
        )

    async def get_many(self, pod_ids: Sequence[PodId]) -> Mapping[PodId, Pod | None]:
        """See ReadsMany."""
        return await self.routes.serve(
            Verb.READ, graphql=lambda: self._graphql.get_many(pod_ids), rest=lambda: self.rest.get_many(pod_ids)
        )

    async def list(self, owner8: str | None) -> Sequence[Pod]:
        """See the port."""
        pods = await self.routes.serve(Verb.READ, graphql=self._graphql.list, rest=self.rest.list)
        return pods if owner8 is None else [pod for pod in pods if _belongs(pod, owner8)]

    async def terminate(self, pod_id: PodId) -> None:
        """See the port."""
        try:
            await self.routes.serve(
                Verb.END,
                graphql=lambda: self._graphql.terminate(pod_id),
                rest=lambda: self.rest.terminate(pod_id),
            )
        except NotFound:
            log.debug("pod_gone_already", pod_id=pod_id)
        self._stopped.discard(pod_id)

    async def stop(self, pod_id: PodId) -> Pod:
        """See Pausable."""
        return await self.routes.serve(
            Verb.STOP, graphql=lambda: self._graphql.stop(pod_id), rest=lambda: self.rest.stop(pod_id)
        )

    async def resume(self, pod_id: PodId, *, gpu_count: int | None = None, bid_per_gpu: Decimal | None = None) -> Pod:
        """See Pausable. The count of a bid is the pod's own unless given; without GraphQL there is neither."""

        async def by_graphql() -> Pod:
            return await self._graphql.resume(pod_id, gpu_count=gpu_count, bid_per_gpu=bid_per_gpu)

        async def by_rest() -> Pod:
            if gpu_count is not None:
                raise InvalidRequest("RunPod's REST v2 starts a pod with the GPUs it had: leave the GPU count out")
            return await self.rest.resume(pod_id)

        if bid_per_gpu is not None:
            return await self.routes.only_graphql(Verb.BID_RESUME, by_graphql)
        return await self.routes.serve(Verb.RESUME, graphql=by_graphql, rest=by_rest)

    async def balance(self) -> Decimal:
        """See HasBalance; raises ApiRetired once GraphQL is gone, since REST v2 does not tell."""
        return await self.routes.only_graphql(Verb.BALANCE, self._api.client_balance)

    async def gpu_types(self) -> Sequence[GpuType]:
        """See HasGpuTypes; at most an hour old."""
        return await self._models.all()

    async def resolve(self, names: Sequence[str]) -> Sequence[GpuType]:
        """The models of these ids or displayed names, in any case, each once; raises UnknownGpu."""
        return await self._models.resolve(names)

    async def ssh_keys(self) -> Sequence[str]:
        """See HasAccountKeys."""
        return await self.routes.serve(Verb.SSH_KEYS, graphql=self._graphql.ssh_keys, rest=self.rest.ssh_keys)

    async def ssh_endpoint(self, pod_id: PodId) -> SshEndpoint | None:
        """See HasSshEndpoint."""
        pod = await self.get(pod_id) or no_such_pod(pod_id, "pod")
        return pod.ssh

    def logs(self, pod_id: PodId, *, tail: int | None = None, follow: bool = False) -> AsyncIterator[LogLine]:
        """See HasLogs; REST v2."""
        return self.rest.logs(pod_id, tail=tail, follow=follow)

    async def billed(self, pods: Sequence[PodId], since: datetime) -> Mapping[PodId, Decimal]:
        """See BillsPerPod; REST v2."""
        return await self.rest.billed(pods, since)

    async def history(self, *, limit: int = 100) -> Sequence[PastPod]:
        """See HasHistory; REST v2."""
        return await self.rest.history(limit=limit)

    async def templates(self) -> Sequence[PodTemplate]:
        """See HasTemplates; REST v2."""
        return await self.rest.templates()

    async def create_template(self, spec: TemplateSpec, *, wait: bool = True) -> PodTemplate:  # noqa: ARG002 - none waits
        """See HasTemplates; REST v2."""
        return await self.rest.create_template(spec)

    async def delete_template(self, template_id: str) -> None:
        """See HasTemplates; REST v2."""
        await self.rest.delete_template(template_id)

    async def _fetch_gpu_types(self) -> Sequence[GpuType]:
        return await self.routes.serve(Verb.GPU_TYPES, graphql=self._graphql.gpu_types, rest=self.rest.gpu_types)


def _belongs(pod: Pod, owner8: str) -> bool:
    if pod.tags is not None:
        return pod.tags.owner == owner8  # a name can be anybody's choice
    return pod.name.startswith((f"rp-{owner8}-", f"rpm-{owner8}-"))
