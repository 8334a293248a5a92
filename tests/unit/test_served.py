"""What the service keeps of requests and pods: judged, counted, ended."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from runner_provisioner.domain.leases import PodRef
from runner_provisioner.domain.pods import PodId
from runner_provisioner.domain.served import (
    Answer,
    Claim,
    Contract,
    IdempotentRequest,
    RequestRef,
    ServedPod,
    Verdict,
)
from runner_provisioner.testing.clock import EPOCH

MINUTE = timedelta(minutes=1)
REQUEST = IdempotentRequest(
    ref=RequestRef("key", "POST /api/cloud/pods", "abc"),
    digest="d1",
    pod_name="rpm-a",
    holder="first",
    held_until=EPOCH + MINUTE,
    begun_at=EPOCH,
)
AGAIN = replace(REQUEST, pod_name="rpm-b", holder="second", held_until=EPOCH + 3 * MINUTE, begun_at=EPOCH + MINUTE)
ANSWERED = replace(REQUEST, answer=Answer(status=201, body="{}"))
POD = ServedPod(
    name="rpm-a",
    contract=Contract.CLOUD,
    requested_at=EPOCH,
    expires_at=EPOCH + 60 * MINUTE,
    reserved=Decimal(2),
)


@pytest.mark.parametrize(
    ("kept", "wanted", "verdict"),
    [
        (None, AGAIN, Verdict.BEGIN),
        (REQUEST, AGAIN, Verdict.BUSY),
        (replace(REQUEST, held_until=EPOCH), AGAIN, Verdict.RESUME),
        (ANSWERED, AGAIN, Verdict.ANSWERED),
        (ANSWERED, replace(AGAIN, digest="d2"), Verdict.MISMATCH),
        (REQUEST, replace(AGAIN, digest="d2"), Verdict.MISMATCH),
        (replace(ANSWERED, held_until=EPOCH), AGAIN, Verdict.ANSWERED),
    ],
    ids=["first", "held", "let go", "answered", "answered, another body", "held, another body", "answered long ago"],
)
def test_a_repeated_request_is_judged_by_what_is_kept(
    kept: IdempotentRequest | None, wanted: IdempotentRequest, verdict: Verdict
) -> None:
    """Another body comes first, then the answer, then who holds it."""
    assert Claim.of(kept, wanted, EPOCH).verdict is verdict


def test_who_takes_a_request_over_goes_on_with_its_pod() -> None:
    """The name of the first try stays: the pod may exist."""
    claim = Claim.of(REQUEST, AGAIN, EPOCH + MINUTE)
    assert claim.verdict is Verdict.RESUME
    assert claim.request == replace(REQUEST, holder="second", held_until=EPOCH + 3 * MINUTE)


def test_who_has_to_wait_is_told_how_long() -> None:
    """Until the holder would be taken to be dead."""
    assert Claim.of(REQUEST, AGAIN, EPOCH + MINUTE / 2).retry_after == MINUTE / 2


def test_a_pod_counts_with_the_most_it_may_cost_until_it_has_ended() -> None:
    """Then with what it cost; without a price with the most again."""
    rented = replace(POD, provider="runpod", id=PodId("p"), price=Decimal("0.6"), created_at=EPOCH + MINUTE)
    assert (POD.counted, rented.counted) == (Decimal(2), Decimal(2))
    over = rented.over(EPOCH + 11 * MINUTE)
    assert (over.ended_at, over.cost, over.counted) == (EPOCH + 11 * MINUTE, Decimal("0.1"), Decimal("0.1"))
    assert POD.over(EPOCH + MINUTE).counted == Decimal(2)
    assert replace(POD, price=Decimal("0.6")).over(EPOCH - MINUTE).cost == 0


def test_a_pod_is_known_once_it_is_rented() -> None:
    """By its provider and its id there."""
    assert POD.ref is None
    assert replace(POD, provider="runpod").ref is None
    assert replace(POD, provider="runpod", id=PodId("p")).ref == PodRef("runpod", PodId("p"))


def test_an_answer_is_no_part_of_a_repr() -> None:
    """It may be long, and is somebody's."""
    assert "{}" not in repr(ANSWERED)
