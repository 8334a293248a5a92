"""Which offers are tried, at what price, and what is said when none is taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner_provisioner.domain.bids import Bid, BidForm
from runner_provisioner.domain.ladder import Ladder, Refusal, check, ladder, narrowed, nothing_rented, without_raises
from runner_provisioner.domain.money import automatic_bid, cost
from runner_provisioner.domain.offers import GpuRequest, Interruptible, Offer, Ranking
from runner_provisioner.domain.pods import CloudType
from runner_provisioner.errors import (
    AllOffersFailed,
    AuthenticationFailed,
    BidTooLow,
    BudgetExceeded,
    CapacityUnavailable,
    InvalidRequest,
    OfferUnfit,
    RunnerProvisionerError,
    SpotDiscontinued,
)

REQUEST = GpuRequest(
    models=("A4000", "A5000"), count=1, interruptible=Interruptible.PREFER, max_price=Decimal("1.00"), bid=None
)


def offer(model: str, price: str, *, spot: bool = False, minimum: str | None = None) -> Offer:
    """An offer of one GPU."""
    return Offer(
        provider="runpod",
        id=f"{model}-{spot}",
        gpu_model=model,
        gpu_count=1,
        price=Decimal(price),
        interruptible=spot,
        minimum_bid=Decimal(minimum) if minimum else None,
    )


OFFERS = (
    offer("A5000", "0.30"),
    offer("A4000", "0.20"),
    offer("A5000", "0.16", spot=True, minimum="0.16"),
    offer("A4000", "0.10", spot=True, minimum="0.10"),
)


def names(found: Ladder, *, raises: bool = False) -> list[str]:
    """The rungs in short; with `raises` those of raised bids too."""
    rungs = [one for one in found.rungs if raises or not one.raises]
    return [f"{one.gpu_model}{'/spot' if one.interruptible else ''}{'+' * one.raises}" for one in rungs]


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (Interruptible.PREFER, ["A4000/spot", "A5000/spot", "A4000", "A5000"]),
        (Interruptible.REQUIRE, ["A4000/spot", "A5000/spot"]),
        (Interruptible.NEVER, ["A4000", "A5000"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("rank", list(Ranking), ids=str)
def test_rungs_go_by_price_and_what_is_not_wanted_is_refused(
    wish: Interruptible, expected: list[str], rank: Ranking
) -> None:
    """Interruptible offers are the cheaper ones; each offer of the other kind is named with its reason."""
    found = ladder(OFFERS, replace(REQUEST, interruptible=wish, rank=rank))
    assert names(found) == expected
    assert len(found.refusals) == 4 - len(expected)
    assert all(isinstance(one.error, OfferUnfit) and "--interruptible" in str(one.error) for one in found.refusals)


def test_a_cheaper_model_comes_first_whatever_the_order_unless_the_order_is_asked_for() -> None:
    """Within five per cent the order of the models decides; `listed` asks for it everywhere."""
    cheap_last = (offer("A4000", "0.30"), offer("A5000", "0.20"))
    assert names(ladder(cheap_last, REQUEST)) == ["A5000", "A4000"]
    assert names(ladder(cheap_last, replace(REQUEST, rank=Ranking.LISTED))) == ["A4000", "A5000"]
    nearly = (offer("A4000", "0.209"), offer("A5000", "0.20"))
    assert names(ladder(nearly, REQUEST)) == ["A4000", "A5000"]


def test_an_interruptible_offer_that_costs_more_than_on_demand_does_not_come_first() -> None:
    """What interruptions are expected to cost counts."""
    found = ladder((offer("A4000", "0.20"), offer("A4000", "0.199", spot=True)), REQUEST)
    assert names(found) == ["A4000", "A4000/spot"]


def test_a_bid_without_stock_is_raised_in_steps_up_to_the_cap() -> None:
    """Each step is a rung of its own, among the others by its price; with `listed` all of them come last."""
    offers = (offer("A4000", "0.10", spot=True), offer("A5000", "0.30"))
    found = ladder(offers, REQUEST)
    assert names(found, raises=True) == ["A4000/spot", "A4000/spot+", "A5000", "A4000/spot++", "A4000/spot+++"]
    assert [str(one.price) for one in found.rungs if one.interruptible] == ["0.1100", "0.2295", "0.4791", "1.00"]
    listed = ladder(offers, replace(REQUEST, rank=Ranking.LISTED))
    assert names(listed, raises=True)[:2] == ["A4000/spot", "A5000"]


def test_once_a_pod_was_rented_its_bid_is_not_raised_any_more() -> None:
    """A raise answers a lack of stock; other offers keep theirs."""
    rungs = ladder((offer("A4000", "0.10", spot=True), offer("A5000", "0.12", spot=True)), REQUEST).rungs
    kept = without_raises(rungs, 0)
    assert [one.gpu_model for one in kept if one.raises] == ["A5000"] * 3
    assert kept[0] == rungs[0]


@pytest.mark.parametrize(
    ("bid", "price"),
    [("0.33", "0.33"), ("min+50%", "0.1500"), ("60% of on-demand", "0.1200"), ("min+2000%", "1.00")],
    ids=str,
)
def test_a_bid_can_follow_the_market(bid: str, price: str) -> None:
    """A share is of the same model's on-demand price, and nothing exceeds the cap."""
    request = replace(REQUEST, models=("A4000",), bid=Bid.parse(bid), interruptible=Interruptible.REQUIRE)
    assert str(ladder(OFFERS[1::2], request).rungs[0].price) == price


def test_a_share_of_a_price_that_nobody_names_is_no_bid() -> None:
    """The offer is refused with its reason."""
    found = ladder(OFFERS[3:], replace(REQUEST, models=("A4000",), bid=Bid.parse("60%")))
    (refusal,) = found.refusals
    assert not found.rungs
    assert "60% of on-demand" in str(refusal.error)


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ({"min_vram_gb": 24}, "16 GB of VRAM are below --min-vram 24"),
        ({"regions": ("EU-RO-1", "US")}, "it is in CA-MTL-1, and --region is EU-RO-1, US"),
    ],
    ids=["vram", "region"],
)
def test_what_does_not_fit_is_refused_with_its_reason(wish: dict[str, object], reason: str) -> None:
    """One that does not say is no fit either."""
    fitting = replace(offer("A4000", "0.5"), memory_gb=24, region="eu-ro-1")
    small = replace(offer("A4000", "0.2"), memory_gb=16, region="CA-MTL-1")
    silent = offer("A4000", "0.1")
    found = ladder((fitting, small, silent), replace(REQUEST, models=("A4000",), **wish))  # type: ignore[arg-type] # fields of a request
    assert found.rungs == (fitting,)
    assert [str(one.error) for one in found.refusals][1] == reason
    assert "unknown" in str(found.refusals[0].error)


def test_a_country_holds_all_its_data_centres() -> None:
    """A market that rents by data centre alone tells in which country each is."""
    there = replace(offer("A4000", "0.5"), region="EU-RO-1", country="RO")
    assert ladder((there,), replace(REQUEST, models=("A4000",), regions=("ro",))).rungs == (there,)
    assert ladder((there,), replace(REQUEST, models=("A4000",), regions=("eu-ro-1",))).rungs == (there,)
    (refusal,) = ladder((there,), replace(REQUEST, models=("A4000",), regions=("RO-1", "SE"))).refusals
    assert "it is in EU-RO-1, and --region is RO-1, SE" in str(refusal)


def test_a_named_model_that_nobody_offers_is_told() -> None:
    """By the name that the user gave it; a displayed name is a name."""
    shown = replace(offer("NVIDIA RTX A4000", "0.2"), gpu_name="RTX A4000")
    found = ladder((shown,), replace(REQUEST, models=("rtx a4000", "H100")))
    assert found.rungs == (shown,)
    (refusal,) = found.refusals
    assert isinstance(refusal.error, OfferUnfit)
    assert "H100" in str(refusal)


def test_a_model_that_was_not_named_comes_last() -> None:
    """A provider may list more than was asked for."""
    assert names(ladder((offer("H100", "0.01"), offer("a5000", "0.30")), REQUEST)) == ["a5000", "H100"]


def test_the_automatic_bid_is_a_tenth_above_the_minimum_and_never_above_the_cap() -> None:
    """The rung's price is what the pod may cost."""
    found = ladder((offer("A4000", "0.10", spot=True, minimum="0.10"),), REQUEST)
    assert found.rungs[0].price == Decimal("0.1100")
    near = ladder((offer("A4000", "0.95", spot=True),), REQUEST)
    assert near.rungs[0].price == Decimal("1.0000")


def test_a_bid_of_the_user_is_taken_as_it_is() -> None:
    """Nothing is added to it while there is stock."""
    found = ladder(OFFERS, replace(REQUEST, bid=Bid(Decimal("0.33"))))
    assert [one.price for one in found.rungs if one.interruptible][:2] == [Decimal("0.33")] * 2


def test_a_bid_under_the_minimum_is_refused_with_the_minimum() -> None:
    """BidTooLow comes before any create call; on-demand offers stay."""
    found = ladder(OFFERS, replace(REQUEST, bid=Bid(Decimal("0.12"))))
    assert names(found) == ["A4000/spot", "A4000", "A5000"]
    (refusal,) = found.refusals
    assert isinstance(refusal.error, BidTooLow)
    assert "0.16" in str(refusal)


def test_offers_above_the_cap_are_refused() -> None:
    """Both kinds, each with its reason."""
    found = ladder(OFFERS, replace(REQUEST, max_price=Decimal("0.05")))
    assert not found.rungs
    error = nothing_rented(replace(REQUEST, max_price=Decimal("0.05")), found.refusals)
    assert isinstance(error, BudgetExceeded)
    assert "0.10" in str(error)
    assert "--max-price" in str(error)


@pytest.mark.parametrize(
    "wrong",
    [
        {"models": ()},
        {"count": 0},
        {"max_price": Decimal(0)},
        {"bid": Bid(Decimal(0))},
        {"bid": Bid(Decimal("1.01"))},
        {"bid": Bid(Decimal("0.5")), "interruptible": Interruptible.NEVER},
        {"max_price": Decimal("1e400")},
    ],
    ids=["no-model", "no-gpu", "no-money", "no-bid", "bid-above-cap", "bid-for-on-demand", "absurd-money"],
)
def test_a_request_that_can_never_succeed_is_refused(wrong: dict[str, object]) -> None:
    """One line, before anything is asked."""
    with pytest.raises(InvalidRequest):
        check(replace(REQUEST, **wrong))  # type: ignore[arg-type] # the fields of a request
    check(REQUEST)
    check(replace(REQUEST, bid=Bid(Decimal("0.5"))))
    check(replace(REQUEST, bid=Bid.parse("60%")))
    check(replace(REQUEST, models=(), min_vram_gb=24))


def test_the_list_price_of_a_bid_is_the_on_demand_price() -> None:
    """However often it is raised; where nobody names that it is the market's minimum, and never the bid."""
    wish = replace(REQUEST, models=("A4000",), bid=Bid(Decimal("0.15")))
    offers = [one for one in OFFERS if one.gpu_model == "A4000"]
    rungs = ladder(offers, wish).rungs
    assert any(one.raises for one in rungs)
    assert {one.list_price for one in rungs} == {Decimal("0.20")}
    alone = [one for one in offers if one.interruptible]
    assert {one.list_price for one in ladder(alone, wish).rungs} == {Decimal("0.10")}


def test_offers_that_nobody_can_afford_name_the_cheapest_and_its_own_reason() -> None:
    """Where the max price is not what stands in the way."""
    error = nothing_rented(REQUEST, [Refusal(offer=OFFERS[1], error=BudgetExceeded("2 USD left: raise --budget-day"))])
    assert isinstance(error, BudgetExceeded)
    assert str(error).endswith("0.20 USD/h (runpod): 2 USD left: raise --budget-day")


def test_a_request_says_what_it_wants() -> None:
    """By model, or by memory."""
    assert str(REQUEST) == "1 x A4000 or A5000"
    assert str(replace(REQUEST, models=(), min_vram_gb=24)) == "1 x any GPU of 24 GB"
    assert str(replace(REQUEST, models=(), min_vram_gb=1)) == "1 x any GPU"


def test_what_else_keeps_an_offer_out_is_named_by_its_option() -> None:
    """Also of one that is too dear; what nobody offers stays as it is."""

    def same(one: Offer) -> None:
        if one.id != chosen.id:
            raise OfferUnfit("it is another one", option="--cloud-id x")

    request = replace(REQUEST, models=("A4000", "A5000", "ABACUS"), max_price=Decimal("0.2"))
    found = ladder(OFFERS, request)
    chosen = found.rungs[0]
    assert {one.id for one in narrowed(found, same).rungs} == {chosen.id}
    chosen = replace(chosen, id="nope")
    none = narrowed(found, same)
    assert not none.rungs
    told = {str(one.error) for one in none.refusals if one.offer.gpu_model != "ABACUS"}
    assert told == {"it is another one"}
    assert "loosen --cloud-id x, name" in str(nothing_rented(request, none.refusals))


def _refused(*errors: RunnerProvisionerError) -> list[Refusal]:
    return [Refusal(offer=OFFERS[0], error=error) for error in errors]


@pytest.mark.parametrize(
    ("errors", "kind"),
    [
        ((), AllOffersFailed),
        ((BidTooLow("low"), BidTooLow("low")), BidTooLow),
        ((SpotDiscontinued("gone"),), SpotDiscontinued),
        ((CapacityUnavailable("none"), AuthenticationFailed("key")), AuthenticationFailed),
        ((CapacityUnavailable("none"), BudgetExceeded("dear")), AllOffersFailed),
        ((CapacityUnavailable("none"),) * 11, AllOffersFailed),
        ((OfferUnfit("not wanted"), BidTooLow("low")), BidTooLow),
        ((OfferUnfit("not wanted"),), AllOffersFailed),
    ],
    ids=["no-offer", "bids", "spot-gone", "a-decisive-one", "mixed", "many", "unfit", "all-unfit"],
)
def test_the_last_word_names_the_cause_that_can_be_acted_on(
    errors: tuple[RunnerProvisionerError, ...], kind: type[RunnerProvisionerError]
) -> None:
    """All attempts are in the error, a few in its line."""
    error = nothing_rented(REQUEST, _refused(*errors))
    assert type(error) is kind
    if isinstance(error, AllOffersFailed):
        assert len(error.attempts) == len(errors)
    if len(errors) == 11:
        assert "and 3 more" in str(error)


def test_an_image_that_an_offer_has_not_is_said_with_those_that_it_has() -> None:
    """Whatever else kept others out: more GPU models would not help."""
    unfit = (OfferUnfit("spot", option="--interruptible never"), OfferUnfit("it has no image 'x'", option="--image"))
    error = nothing_rented(REQUEST, _refused(*unfit))
    assert str(error) == "no offer for 1 x A4000 or A5000 takes this --image: runpod: it has no image 'x'"


@pytest.mark.parametrize(
    ("wish", "word"), [("require", "interruptible "), ("never", "on-demand "), ("prefer", "no offer")]
)
def test_no_offer_at_all_says_of_which_kind(wish: str, word: str) -> None:
    """The reader learns what was looked for."""
    assert word in str(nothing_rented(replace(REQUEST, interruptible=Interruptible(wish)), []))


@pytest.mark.parametrize(
    ("offers", "changed", "told"),
    [
        (
            OFFERS[:0],
            {"regions": ("EU-RO-1", "US"), "cuda": "13.9"},
            "loosen --region EU-RO-1 --region US or --cuda 13.9, name",
        ),
        (OFFERS[:0], {"count": 9, "cloud": CloudType.SECURE}, "loosen --gpu-count 9 or --cloud secure, name"),
        (OFFERS, {"min_vram_gb": 999, "cuda": "11.8"}, "loosen --min-vram 999, name"),
        (OFFERS, {"regions": ("XX-NO-1",)}, "loosen --region XX-NO-1, name"),
        (
            [one for one in OFFERS if not one.interruptible],
            {"interruptible": Interruptible.REQUIRE},
            "loosen --interruptible require, name",
        ),
        (
            [one for one in OFFERS if one.interruptible],
            {"interruptible": Interruptible.NEVER},
            "loosen --interruptible never, name",
        ),
        (
            [one for one in OFFERS if one.interruptible],
            {"bid": Bid(Decimal(60), BidForm.OF_ON_DEMAND)},
            "loosen --bid '60% of on-demand', name",
        ),
        (OFFERS[:0], {}, "right now: name more GPU models"),
        (
            OFFERS[:0],
            {"min_vcpus": 64, "min_memory_gb": 900, "disk_gb": 5000},
            "loosen --min-vcpus 64 or --min-memory 900 or --disk, name",
        ),
        (OFFERS[:0], {"min_vcpus": 1, "min_memory_gb": 4, "disk_gb": 40}, "right now: name more GPU models"),
        (OFFERS[:0], {"models": (), "min_vram_gb": 999}, "loosen --min-vram 999, or try again later"),
        (OFFERS[:0], {"models": (), "min_vram_gb": 1}, "right now: try again later"),
        (
            [one for one in OFFERS if one.interruptible],
            {"interruptible": Interruptible.NEVER, "min_vcpus": 64},
            "loosen --min-vcpus 64 or --interruptible never, name",
        ),
    ],
    ids=[
        "empty-market",
        "many-gpus",
        "memory",
        "region",
        "spot-only",
        "on-demand-only",
        "bid",
        "nothing-to-loosen",
        "sizes",
        "sizes-that-all-have",
        "no-model",
        "any-gpu",
        "spot-only-of-that-size",
    ],
)
def test_the_option_that_leaves_no_offer_is_named(
    offers: Sequence[Offer], changed: dict[str, object], told: str
) -> None:
    """That which kept offers out; where there are none, what the market was asked with."""
    request = replace(REQUEST, **changed)  # type: ignore[arg-type] # the fields of a request
    found = ladder(offers, request)
    assert not found.rungs
    assert told in str(nothing_rented(request, found.refusals))


@given(st.decimals("0.0001", "50", places=4), st.decimals("0.0001", "50", places=4))
def test_an_automatic_bid_never_exceeds_the_cap(minimum: Decimal, cap: Decimal) -> None:
    """Whatever the market says."""
    assert automatic_bid(minimum, cap) <= cap


def test_cost_is_by_the_second() -> None:
    """An hour costs the price."""
    assert cost(Decimal("0.36"), 3600) == Decimal("0.3600")
    assert cost(Decimal("0.36"), 10) == Decimal("0.0010")


def test_where_nobody_bids_the_price_is_the_floor_and_nothing_is_raised() -> None:
    """Unless it is above the cap, or above what the user would bid."""
    fixed = replace(offer("A4000", "0.10", spot=True, minimum="0.10"), bids=False)
    [rung] = ladder([fixed], REQUEST).rungs
    assert (rung.price, rung.raises) == (Decimal("0.10"), 0)
    dear = ladder([fixed], replace(REQUEST, max_price=Decimal("0.05")))
    assert BudgetExceeded in {type(one.error) for one in dear.refusals}
    low = ladder([fixed], replace(REQUEST, bid=Bid(Decimal("0.05"))))
    assert BidTooLow in {type(one.error) for one in low.refusals}
    assert not dear.rungs
    assert not low.rungs
