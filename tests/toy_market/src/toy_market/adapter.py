"""Toy Market's verbs: five of the port, and the kill time."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from runner_provisioner.domain.offers import GpuRequest, Offer
from runner_provisioner.domain.pods import Pod, PodId, PodSpec, PodState, PodTags, SshEndpoint
from runner_provisioner.errors import (
    CapacityUnavailable,
    CreateOutcomeUnknown,
    NotFound,
    ProtocolViolation,
    RateLimited,
    RemoteError,
    TransientError,
    UnknownGpu,
    Unreachable,
)
from runner_provisioner.providers.http import Answer, HttpSession, Pace, Plumbing, Retry, error_of_status

NAME = "toy"
SOLD_OUT = 409


class ToyProvider:
    """Keeps the promises of GpuProvider and HasKillTime."""

    name = NAME
    kill_time = True

    def __init__(self, *, url: str, key: str, plumbing: Plumbing, pace: Pace | None = None) -> None:
        """Nothing is sent yet; the key is kept out of every log from here on."""
        plumbing.redactor.add(key)
        self._headers = {"Authorization": f"Bearer {key}"}
        self._session = HttpSession(service=NAME, base_url=url, plumbing=plumbing, pace=pace)

    async def aclose(self) -> None:
        """Give the connections back."""
        await self._session.aclose()

    async def offers(self, request: GpuRequest) -> Sequence[Offer]:
        """See the port."""
        listed = await self._call("offers", "GET", "offers", params={"count": request.count})
        models = {one["gpu"].casefold(): one["gpu"] for one in listed["offers"]}
        for name in request.models:
            if name.casefold() not in models:
                near = difflib.get_close_matches(name, models.values(), n=3, cutoff=0.0)
                raise UnknownGpu(f"Toy Market has no GPU '{name}': the nearest are {', '.join(near)}")
        wanted = {name.casefold() for name in request.models} or set(models)
        return [_offer(one, request) for one in listed["offers"] if one["gpu"].casefold() in wanted and one["stock"]]

    async def create(self, spec: PodSpec, offer: Offer) -> Pod:
        """See the port. Sent again only where it never arrived: only then nobody can have rented anything."""
        body = {
            "offer": offer.id,
            "count": offer.gpu_count,
            "name": spec.name,
            "image": spec.image,
            "command": spec.command,
            "env": dict(spec.env) | (spec.tags.to_env() if spec.tags else {}),
            "ends_at": spec.terminate_after.isoformat() if spec.terminate_after else None,
        }
        try:
            return _pod(await self._call("create", "POST", "pods", json=body, retry=Retry.CREATE))
        except (RateLimited, CapacityUnavailable):
            raise
        except (TransientError, ProtocolViolation) as error:
            if isinstance(error, Unreachable) and not error.arrived:
                raise
            raise CreateOutcomeUnknown(
                f"no usable answer to the create of {spec.name}: a pod may exist", service=NAME, operation="create"
            ) from error

    async def get(self, pod_id: PodId) -> Pod | None:
        """See the port."""
        try:
            return _pod(await self._call("get", "GET", f"pods/{pod_id}"))
        except NotFound:
            return None

    async def list(self, owner8: str | None) -> Sequence[Pod]:
        """See the port."""
        pods = [_pod(one) for one in (await self._call("list", "GET", "pods"))["pods"]]
        return [pod for pod in pods if owner8 is None or (pod.tags is not None and pod.tags.owner == owner8)]

    async def terminate(self, pod_id: PodId) -> None:
        """See the port."""
        try:
            await self._call("terminate", "DELETE", f"pods/{pod_id}")
        except NotFound:
            return

    async def _call(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        json: object | None = None,
        params: Mapping[str, str | int] | None = None,
        retry: Retry = Retry.IDEMPOTENT,
    ) -> Any:  # noqa: ANN401 - JSON
        answer = await self._session.send(
            operation, method, path, json=json, params=params, headers=self._headers, retry=retry, classify=_error
        )
        return answer.json()


def _error(answer: Answer) -> RemoteError | None:
    if answer.status == SOLD_OUT:
        return CapacityUnavailable("Toy Market: sold out meanwhile", service=NAME, code="SOLD_OUT")
    return error_of_status(answer)


def _offer(one: Mapping[str, Any], request: GpuRequest) -> Offer:
    price = Decimal(one["price"])
    return Offer(
        provider=NAME,
        id=one["id"],
        gpu_model=one["gpu"],
        gpu_count=request.count,
        price=price,
        interruptible=one["spot"],
        minimum_bid=price if one["spot"] else None,
        memory_gb=one["memory"],
    )


def _pod(one: Mapping[str, Any]) -> Pod:
    running = one["state"] == "running"
    return Pod(
        provider=NAME,
        id=PodId(one["id"]),
        name=one["name"],
        state=PodState.RUNNING if running else PodState.STARTING,
        price=Decimal(one["price"]),
        created_at=datetime.fromisoformat(one["created_at"]),
        tags=PodTags.from_env(one["env"]),
        ssh=SshEndpoint(host="203.0.113.1", port=one["port"]) if running else None,
        status=one["state"],
    )
