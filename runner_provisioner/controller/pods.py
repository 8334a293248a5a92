"""`/api/v1/pods`: pods in the words of Prime Intellect, over every provider."""

from __future__ import annotations

from contextlib import aclosing
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from runner_provisioner.controller.inputs import Id, Key, Sent, answer_of, rented
from runner_provisioner.controller.parts import parts_of
from runner_provisioner.controller.pods_create import PodCreate, wish_of
from runner_provisioner.controller.pods_rows import past_row, pod_row, status_row, terminated_row, unknown_row
from runner_provisioner.controller.route import ContractRoute
from runner_provisioner.domain.pods import PodId
from runner_provisioner.domain.served import Answer, Contract, PodOrder, PodQuery
from runner_provisioner.errors import MissingCredential, NotFound, RemoteError
from runner_provisioner.services.orders import Made
from runner_provisioner.services.served import Known

router = APIRouter(
    prefix="/api/v1/pods",
    tags=["pods"],
    route_class=ContractRoute,
)
Row = dict[str, Any]
LOG_LINES = 1000
Offset = Annotated[int, Query(ge=0, le=1_000_000)]
Limit = Annotated[int, Query(ge=1, le=1000)]
SingleId = Annotated[str, Query(pattern=r"^[A-Za-z0-9_-]{1,80}$")]


@router.post("")
@router.post("/", include_in_schema=False)
async def create(request: Request, body: PodCreate, idempotency_key: Key = None) -> Response:
    """Rent a pod. "Instances -> Read and Write"."""
    pod = body.pod
    sent = Sent(contract=Contract.PODS, label=pod.name, body=body, key=idempotency_key, hours=pod.lifetime_hours)
    return await rented(request, sent, partial(wish_of, request, body), _created)


def _created(made: Made) -> Answer:
    return answer_of(pod_row(Known(pod=made.pod, served=made.served)))


@router.get("")
@router.get("/", include_in_schema=False)
async def list_pods(request: Request, offset: Offset = 0, limit: Limit = 100) -> Row:
    """Every pod of every account, the latest first. "Instances -> Read"."""
    found, errors = await parts_of(request).served.all()
    for error in errors.values():
        raise error
    latest = list(reversed(found))
    rows = [pod_row(one) for one in latest[offset : offset + limit]]
    return {"data": rows, "total_count": len(latest), "offset": offset, "limit": limit}


@router.get("/status")
@router.get("/status/", include_in_schema=False)
async def statuses(request: Request, pod_ids: Annotated[list[SingleId], Query(min_length=1, max_length=100)]) -> Row:
    """How far several pods are; one that nobody knows is UNKNOWN."""
    parts = parts_of(request)
    found, errors = await parts.served.all()
    seen = {str(one.pod.id): one for one in found}
    rows = []
    for pod_id in dict.fromkeys(pod_ids):
        if pod_id in seen:
            rows.append(status_row(seen[pod_id]))
            continue
        served = await parts.served.remembered(PodId(pod_id))
        if served is None or (served.ended_at is None and errors):
            rows.append(unknown_row(pod_id, served))
        elif served.ended_at is not None:
            rows.append(terminated_row(served))
        else:
            rows.append(await _looked_at(request, pod_id))
    return {"data": rows}


async def _looked_at(request: Request, pod_id: str) -> Row:
    """A list may lag: what it does not show and is not known to have ended is read by itself."""
    served = await parts_of(request).served.remembered(PodId(pod_id))
    try:
        return status_row(await parts_of(request).served.get(PodId(pod_id)))
    except NotFound:
        return unknown_row(pod_id, served) if served is None else terminated_row(served)
    except (RemoteError, MissingCredential):
        return unknown_row(pod_id, served)


@router.get("/history")
@router.get("/history/", include_in_schema=False)
async def history(
    request: Request,
    offset: Offset = 0,
    limit: Limit = 100,
    sort_by: Literal["terminatedAt", "createdAt"] = "terminatedAt",
    sort_order: Literal["asc", "desc"] = "desc",
) -> Row:
    """Pods of this service that have ended."""
    query = PodQuery(ended=True, order=PodOrder(sort_by), descending=sort_order == "desc", offset=offset, limit=limit)
    page = await parts_of(request).state.pods.list(query)
    rows = [past_row(one) for one in page.pods]
    return {"data": rows, "total_count": page.total, "offset": offset, "limit": limit}


@router.get("/{pod_id}")
@router.get("/{pod_id}/", include_in_schema=False)
async def get(request: Request, pod_id: Id) -> Row:
    """One pod."""
    return pod_row(await parts_of(request).served.get(pod_id))


@router.get("/{pod_id}/logs")
@router.get("/{pod_id}/logs/", include_in_schema=False)
async def logs(request: Request, pod_id: Id, tail: Annotated[int, Query(ge=1, le=10_000)] = LOG_LINES) -> Row:
    """The end of the output of the pod's container, as its provider has it."""
    parts = parts_of(request)
    known = await parts.served.get(pod_id)
    async with aclosing(await parts.markets((known.pod.provider,)).logs(pod_id, tail=tail)) as found:  # type: ignore[type-var] # adapters give generators
        lines = [parts.redact(line.text) async for line in found]
    return {"podId": pod_id, "logs": "\n".join(lines)}


@router.delete("/{pod_id}")
@router.delete("/{pod_id}/", include_in_schema=False)
async def delete(request: Request, pod_id: Id) -> Row:
    """End a pod for good, and look that it is gone."""
    known = await parts_of(request).served.end(pod_id)
    request.state.provider = known.pod.provider
    return {"status": "ok", "podId": pod_id}
