"""Every failure at every request of a create: repeated until it works, it has rented one pod and left nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable

import pytest
from contract.test_celium_contract import MODEL, CeliumWorld

from runner_provisioner.domain.offers import Offer
from runner_provisioner.domain.pods import Pod
from runner_provisioner.errors import InvalidRequest, ProtocolViolation, RemoteError
from runner_provisioner.providers.celium import CeliumProvider
from runner_provisioner.simulators.celium import RentAnswer, rows
from runner_provisioner.simulators.faults import Fault, FaultKind
from runner_provisioner.simulators.market import rows as any_rows
from runner_provisioner.testing.provider_contract import OWNER, PLANTED

OPERATIONS = ("templates.list", "ssh_keys.list", "templates.create", "pods.rent", "pods.get", "pods.schedule")
LASTING = 6  # one more than the retries of a call
KINDS: dict[str, Callable[[str, int], Fault]] = {
    "500": lambda operation, times: rows.internal_error(operation, times=times),
    "502 of a proxy": lambda operation, times: any_rows.html_502(operation, times=times),
    "429": lambda operation, times: rows.rate_limited(operation, times=times),
    "429, much later": lambda operation, times: rows.rate_limited(operation, retry_after=900, times=times),
    "401": lambda operation, times: rows.refused(operation, "no", status=401, times=times),
    "403": lambda operation, times: rows.refused(operation, "no", status=403, times=times),
    "404": lambda operation, times: rows.refused(operation, "Thing not found", status=404, times=times),
    "409": lambda operation, times: rows.refused(operation, "conflict", status=409, times=times),
    "422": lambda operation, times: rows.refused(operation, "invalid", status=422, times=times),
    "410": lambda operation, times: rows.refused(operation, "gone", status=410, times=times),
    "cut before": lambda operation, times: Fault(operation=operation, kind=FaultKind.DROP_BEFORE, times=times),
    "cut after": lambda operation, times: Fault(operation=operation, kind=FaultKind.DROP_AFTER, times=times),
    "never answered": lambda operation, times: Fault(operation=operation, kind=FaultKind.HANG, times=times),
    "done, never answered": lambda operation, times: Fault(operation=operation, kind=FaultKind.HANG_AFTER, times=times),
    "nonsense": lambda operation, times: any_rows.malformed(operation, times=times),
    "redirected": lambda operation, times: any_rows.redirect(operation, "http://lium.io/api/pods", times=times),
}


async def rent(world: CeliumWorld, adapter: CeliumProvider, offer: Offer) -> Pod | None:
    """One try; None when it failed in a way that a caller knows."""
    failed: list[str] = []
    try:
        return await adapter.create(world.spec(), offer)
    except (RemoteError, InvalidRequest) as error:
        failed.append(str(error))
    assert PLANTED not in failed[0]
    assert world.credential not in failed[0]
    return None


@pytest.mark.parametrize(
    ("answer", "elsewhere"),
    [
        pytest.param(RentAnswer.SHORT, False, id="the same process"),
        pytest.param(RentAnswer.SHORT, True, id="the next process", marks=pytest.mark.full),
        pytest.param(RentAnswer.POD, False, id="the same process, told the pod", marks=pytest.mark.full),
        pytest.param(RentAnswer.POD, True, id="the next process, told the pod", marks=pytest.mark.full),
    ],
)
@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        # The rent itself every day; what comes before and after it fails in the same ways.
        pytest.param(
            operation, kind, id=f"{operation}: {kind}", marks=() if operation == "pods.rent" else pytest.mark.full
        )
        for operation, kind in itertools.product(OPERATIONS, KINDS)
    ],
)
async def test_a_create_that_is_repeated_rents_one_pod(
    world: CeliumWorld, operation: str, kind: str, answer: RentAnswer, *, elsewhere: bool
) -> None:
    """Whoever repeats it; and once that pod is ended, no template of ours says anything any more."""
    world.simulator.settings.rent_answer = answer
    [offer] = [one for one in await world.celium.offers(world.request) if not one.interruptible]
    world.simulator.faults.add(KINDS[kind](operation, LASTING))
    adapter, pod = world.celium, None
    for _ in range(LASTING + 3):
        pod = await rent(world, adapter, offer)
        if pod is not None:
            break
        await world.clock.sleep(1000)
        assert world.rented() <= 1
        adapter = world.again() if elsewhere else adapter
    assert pod is not None
    world.simulator.faults.clear()
    await world.clock.sleep(1000)
    assert [one.id for one in await adapter.list(OWNER)] == [pod.id]
    assert world.rented() == 1
    assert world.simulator.pod(pod.id).terminate_after is not None
    await adapter.terminate(pod.id)
    assert world.rented() == 0
    assert await adapter.get(pod.id) is None
    world.simulator.market.set_stock(MODEL, 0)
    left = [one for one in world.simulator.account.templates.values() if one.own]
    assert PLANTED not in str([(one.startup_commands, one.environment) for one in left])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("operation", ["pods.get", "pods.list", "pods.delete"])
async def test_a_failed_look_is_an_error_and_no_absence(world: CeliumWorld, operation: str, kind: str) -> None:
    """A pod that lives is told, or nothing is; only Lium's own 404 says that it is gone."""
    [offer] = [one for one in await world.celium.offers(world.request) if not one.interruptible]
    pod = await world.celium.create(world.spec(), offer)
    await world.clock.sleep(60)
    world.simulator.faults.add(KINDS[kind](operation, 100))
    if operation == "pods.get" and kind == "404":
        assert await world.celium.get(pod.id) is None
        return
    if operation == "pods.delete" and kind == "404":
        await world.celium.terminate(pod.id)
        return
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "pods.get": lambda: world.celium.get(pod.id),
        "pods.list": lambda: world.celium.list(OWNER),
        "pods.delete": lambda: world.celium.terminate(pod.id),
    }
    with pytest.raises(RemoteError) as caught:
        await calls[operation]()
    if kind == "redirected":
        assert isinstance(caught.value, ProtocolViolation)
