"""Every failure at every request of Prime Intellect's adapter is an error of its kind, never an absence or a bill."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest
from contract.test_prime_contract import PrimeWorld, cheapest, worlds

from runner_provisioner.domain.offers import Offer
from runner_provisioner.domain.pods import Pod
from runner_provisioner.errors import (
    ApiRetired,
    AuthenticationFailed,
    CreateOutcomeUnknown,
    ProtocolViolation,
    RateLimited,
    RemoteError,
    ServerError,
    Timeout,
    Unreachable,
)
from runner_provisioner.simulators.faults import Fault, FaultKind
from runner_provisioner.testing.provider_contract import OWNER

Verb = Callable[[PrimeWorld, Offer, Pod], Awaitable[object]]


async def _read_log(world: PrimeWorld, pod: Pod) -> list[str]:
    return [line.text async for line in world.prime.logs(pod.id)]


VERBS: dict[str, tuple[str, Verb]] = {
    "offers": ("availability.gpus", lambda world, _offer, _pod: world.prime.offers(world.request)),
    "create": ("pods.create", lambda world, offer, _pod: world.prime.create(world.spec("2"), offer)),
    "get": ("pods.get", lambda world, _offer, pod: world.prime.get(pod.id)),
    "get many": ("pods.status", lambda world, _offer, pod: world.prime.get_many([pod.id])),
    "list": ("pods.list", lambda world, _offer, _pod: world.prime.list(OWNER)),
    "terminate": ("pods.delete", lambda world, _offer, pod: world.prime.terminate(pod.id)),
    "confirm": ("pods.get", lambda world, _offer, pod: world.prime.terminate(pod.id)),
    "logs": ("pods.logs", lambda world, _offer, pod: _read_log(world, pod)),
    "history": ("pods.history", lambda world, _offer, _pod: world.prime.history()),
    "balance": ("billing.wallet", lambda world, _offer, _pod: world.prime.balance()),
    "keys": ("ssh_keys.list", lambda world, _offer, _pod: world.prime.ssh_keys()),
    "gpu types": ("availability.gpu-summary", lambda world, _offer, _pod: world.prime.gpu_types()),
}
FAULTS: dict[str, tuple[Fault, type[RemoteError]]] = {
    "401": (Fault(operation="", kind=FaultKind.ERROR, status=401), AuthenticationFailed),
    "403": (Fault(operation="", kind=FaultKind.ERROR, status=403), AuthenticationFailed),
    "gateway 404": (Fault(operation="", kind=FaultKind.ERROR, status=404, body="<html>"), ProtocolViolation),
    "410": (Fault(operation="", kind=FaultKind.ERROR, status=410), ApiRetired),
    "429": (Fault(operation="", kind=FaultKind.ERROR, status=429), RateLimited),
    "500": (Fault(operation="", kind=FaultKind.ERROR, status=500), ServerError),
    "503": (Fault(operation="", kind=FaultKind.ERROR, status=503, body="<html>"), ServerError),
    "cut before": (Fault(operation="", kind=FaultKind.DROP_BEFORE), Unreachable),
    "cut after": (Fault(operation="", kind=FaultKind.DROP_AFTER), Unreachable),
    "no answer": (Fault(operation="", kind=FaultKind.HANG), Timeout),
    "answer lost": (Fault(operation="", kind=FaultKind.HANG_AFTER), Timeout),
    "not JSON": (Fault(operation="", kind=FaultKind.MALFORMED), ProtocolViolation),
    "redirect": (
        Fault(operation="", kind=FaultKind.ERROR, status=307, headers={"location": "https://evil.test/"}),
        ProtocolViolation,
    ),
}
DONE = {FaultKind.DROP_AFTER, FaultKind.HANG_AFTER, FaultKind.MALFORMED}
UNKNOWN = (ProtocolViolation, ServerError, Timeout, Unreachable)


@pytest.fixture
async def world() -> AsyncIterator[PrimeWorld]:
    """In process."""
    async for one in worlds():
        yield one


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("verb", VERBS)
async def test_every_failure_at_every_request(world: PrimeWorld, verb: str, fault: str) -> None:
    """Of the class that it is; a create may have rented only where its outcome is said to be unknown."""
    operation, call = VERBS[verb]
    planned, error = FAULTS[fault]
    offer = await cheapest(world)
    pod = await world.prime.create(world.spec(), offer)
    world.simulator.faults.add(replace(planned, operation=operation, times=None))
    if (verb, fault) == ("confirm", "gateway 404"):
        await call(world, offer, pod)  # the list says that it is gone
        assert world.rented() == 0
        return
    created = verb == "create"
    with pytest.raises(CreateOutcomeUnknown if created and issubclass(error, UNKNOWN) else error) as caught:
        await call(world, offer, pod)
    assert caught.value.service == "prime"
    assert world.simulator.key not in str(caught.value)
    if created:
        assert world.rented() == (2 if planned.kind in DONE else 1)
        assert world.simulator.faults.count(operation) == (6 if fault == "429" else 2)


@pytest.mark.parametrize("fault", FAULTS)
async def test_after_any_failure_of_a_create_its_pod_is_found_by_name(world: PrimeWorld, fault: str) -> None:
    """Or there is none: two looks of the list agree with the simulator's own count."""
    planned, _ = FAULTS[fault]
    offer = await cheapest(world)
    world.simulator.faults.add(replace(planned, operation="pods.create", times=None))
    with pytest.raises(RemoteError):
        await world.prime.create(world.spec(), offer)
    found = await world.prime.list(OWNER)
    assert {pod.id for pod in found} == {pod.id for pod in world.simulator.live()}
    assert all(pod.name == world.spec().name for pod in found)
