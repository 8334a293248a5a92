"""What an hour of useful time costs, from priors and from what was seen."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner_provisioner.domain.cuda import cuda_floor, cuda_of_image
from runner_provisioner.domain.history import Experience, Memory, OfferKind
from runner_provisioner.domain.offers import GpuRequest, Interruptible, Offer
from runner_provisioner.domain.ranking import (
    BOOT_PRIOR,
    INTERRUPTION_PRIOR,
    expected_boot,
    expected_job,
    interruption_rate,
    outlook,
    ranked,
)
from runner_provisioner.errors import InvalidRequest

REQUEST = GpuRequest(models=("A", "B"), count=1, interruptible=Interruptible.PREFER, max_price=Decimal(1))
SPOT = Offer(provider="p", id="a", gpu_model="A", gpu_count=1, price=Decimal("0.10"), interruptible=True)
SURE = replace(SPOT, id="b", interruptible=False)


def memory(offer: Offer, **seen: object) -> Memory:
    """What was seen of one kind of offers."""
    return Memory(experience={OfferKind.of(offer): Experience(**seen)})  # type: ignore[arg-type] # fields of an experience


def test_without_experience_the_priors_decide() -> None:
    """Two minutes of boot, and an interruption every twenty hours of an interruptible pod."""
    spot, sure = outlook(SPOT, Memory()), outlook(SURE, Memory())
    assert (spot.boot, spot.interruptions_per_hour, spot.in_stock) == (BOOT_PRIOR, INTERRUPTION_PRIOR, 1.0)
    assert sure.interruptions_per_hour == 0
    assert sure.effective == Decimal("0.1033")
    assert spot.effective == Decimal("0.1060")


def test_what_boots_slowly_costs_more() -> None:
    """Three boots weigh as much as the prior."""
    slow = memory(SURE, boots=(timedelta(seconds=600),) * 3, rentals=3, hours=3.0)
    assert expected_boot(slow.experience[OfferKind.of(SURE)]) == timedelta(seconds=360)
    assert outlook(SURE, slow).effective > outlook(SURE, Memory()).effective


def test_what_is_interrupted_often_costs_more_and_what_never_is_costs_less() -> None:
    """An on-demand pod too, once it was seen."""
    often = Experience(interruptions=9, hours=10.0, rentals=10)
    assert interruption_rate(often, interruptible=True) == pytest.approx(10 / 30)
    assert interruption_rate(Experience(hours=980.0), interruptible=True) == pytest.approx(0.001)
    assert interruption_rate(often, interruptible=False) == pytest.approx(0.3)
    order = ranked((SPOT, replace(SURE, price=Decimal("0.12"))), REQUEST, memory(SPOT, interruptions=9, hours=10.0))
    assert [one.interruptible for one in order] == [False, True]


def test_long_jobs_make_boots_cheap_and_interruptions_dear() -> None:
    """The length of a job is that of this installation's pods."""
    long = Memory(experience={OfferKind.of(replace(SURE, gpu_model="other")): Experience(hours=200.0, rentals=20)})
    assert expected_job(long) > timedelta(hours=8)
    assert outlook(SURE, long).effective < outlook(SURE, Memory()).effective
    assert outlook(SPOT, long).effective > outlook(SPOT, Memory()).effective
    assert expected_job(memory(SURE, rentals=1000)) == timedelta(minutes=6)


def test_an_offer_that_is_never_in_stock_falls_behind_one_that_costs_a_little_more() -> None:
    """A refusal costs seconds: it weighs a tenth at most."""
    never = memory(SURE, refusals=500)
    dearer = replace(SURE, id="c", gpu_model="B", price=Decimal("0.108"))
    much_dearer = replace(dearer, price=Decimal("0.12"))
    assert ranked((SURE, dearer), REQUEST, Memory())[0] == SURE
    assert ranked((SURE, dearer), replace(REQUEST, models=("B", "A")), never)[0] == dearer
    assert ranked((SURE, much_dearer), REQUEST, never)[0] == SURE


def test_a_region_without_a_history_of_its_own_has_that_of_its_kind() -> None:
    """What was seen before anybody named a region, and nothing of another region."""
    here = replace(SPOT, region="EU-RO-1")
    assert outlook(here, memory(SPOT, interruptions=5)).interruptions_per_hour == pytest.approx(0.3)
    other = memory(replace(SPOT, region="US"), interruptions=5)
    assert outlook(here, other).interruptions_per_hour == INTERRUPTION_PRIOR


@given(
    st.lists(st.tuples(st.sampled_from("AB"), st.booleans(), st.decimals("0.01", "9", places=2)), max_size=8),
    st.integers(0, 50),
    st.floats(0, 500),
)
def test_ranking_keeps_every_offer_once_and_is_never_cheaper_than_the_list(
    made: list[tuple[str, bool, Decimal]], seen: int, hours: float
) -> None:
    """Whatever was seen; a useful hour costs no less than an hour."""
    offers = [
        replace(SPOT, id=str(number), gpu_model=model, interruptible=spot, price=price)
        for number, (model, spot, price) in enumerate(made)
    ]
    known = memory(SPOT, interruptions=seen, hours=hours, refusals=seen, rentals=seen)
    assert sorted(one.id for one in ranked(offers, REQUEST, known)) == sorted(one.id for one in offers)
    assert all(outlook(one, known).effective >= one.price for one in offers)


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("runpod/pytorch:2.1.0-py3.10-cuda11.8.0-devel-ubuntu22.04", "11.8"),
        ("pytorch/pytorch:2.3.0-cuda12.1-cudnn8-runtime", "12.1"),
        ("nvidia/cuda:12.4.1-devel-ubuntu22.04", "12.4"),
        ("nvidia/cuda:12.2.0-cudnn8-runtime-ubuntu22.04", "12.2"),
        ("reg.example:5000/a/b:torch-cu121", "12.1"),
        ("runpod/pytorch:1.0.2-cu1281-torch280-ubuntu2404", "12.8"),
        ("vllm/vllm-openai:v0.6.1", None),
        ("ubuntu:22.04", None),
        ("python:3.11-slim", None),
        ("reg.example:5000/cuda12.1", None),
        ("a/b@sha256:0123cu121", None),
        ("a/focus121:focus121", None),
    ],
    ids=str,
)
def test_the_cuda_floor_is_what_the_tag_names(image: str, version: str | None) -> None:
    """And nothing where it names none."""
    assert cuda_of_image(image) == version
    assert cuda_floor(None, image) == version


@pytest.mark.parametrize(("given", "floor"), [("12.4", "12.4"), (" 12.04.1 ", "12.4"), ("any", None), ("ANY", None)])
def test_a_floor_that_is_given_wins(given: str, floor: str | None) -> None:
    """`any` asks for none."""
    assert cuda_floor(given, "x:cu121") == floor


@pytest.mark.parametrize("given", ["", "12", "cuda12.1", "12.x"])
def test_a_floor_that_is_no_version_is_refused(given: str) -> None:
    """With the form."""
    with pytest.raises(InvalidRequest, match=r"write a version such as 12\.4"):
        cuda_floor(given, "x")
