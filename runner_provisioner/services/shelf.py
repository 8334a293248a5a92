"""What can be chosen from: machines by their id, and templates by theirs, over every provider that has some."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from runner_provisioner.domain.markets import PodTemplate, TemplateSpec
from runner_provisioner.domain.offers import GpuRequest, Interruptible, Offer
from runner_provisioner.domain.served import Answer
from runner_provisioner.errors import CapacityUnavailable, InvalidRequest, NotFound
from runner_provisioner.ports import Clock, GpuProvider, HasTemplates
from runner_provisioner.services.asking import ask_all
from runner_provisioner.services.offers import survey
from runner_provisioner.services.once import Confirm, Identity, Once, Work

COUNTS = (1, 2, 4, 8)
FRESH = 10.0
"""Seconds for which a list of machines is good: asking for it is many requests."""
MANY = Decimal(1_000_000)  # USD per hour: what is listed is shown at any price


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """An offer that can be named: by its id where that is one already, else with its provider in front."""

    id: str
    offer: Offer


def any_gpu(count: int, *, max_price: Decimal, models: tuple[str, ...] = ()) -> GpuRequest:
    """A request that every GPU serves."""
    return GpuRequest(
        models=models,
        count=count,
        interruptible=Interruptible.PREFER,
        max_price=max_price,
        min_vram_gb=None if models else 1,
    )


class Shelf:
    """The use cases of lists to choose from."""

    def __init__(self, providers: Mapping[str, GpuProvider], once: Once, *, clock: Clock, named_plainly: str) -> None:
        """Machines of the provider `named_plainly` keep their own ids, and new templates are made there."""
        self._providers = providers
        self._once = once
        self._clock = clock
        self._plain = named_plainly
        self._kept: dict[int, tuple[float, Sequence[Offer]]] = {}

    # --- machines ----------------------------------------------------------------------------------------------------

    async def machines(self, *, count: int | None = None) -> Sequence[Machine]:
        """What is for rent, each machine once with the fewest GPUs that it rents out; the cheapest first."""
        found: dict[str, Machine] = {}
        for one in COUNTS if count is None else (count,):
            for offer in await self._offers(one):
                machine = Machine(id=self._id(offer), offer=offer)
                found.setdefault(machine.id, machine)
        return sorted(found.values(), key=lambda one: (one.offer.price, one.id))

    async def machine(self, machine_id: str, *, count: int | None = None) -> Machine:
        """One of them. Raises CapacityUnavailable where it is not for rent now."""
        found = {one.id: one for one in await self.machines(count=count)}
        if machine_id not in found:
            raise CapacityUnavailable(f"machine '{machine_id}' is not for rent now: choose another of the list")
        return found[machine_id]

    async def _offers(self, count: int) -> Sequence[Offer]:
        now = self._clock.monotonic()
        at, offers = self._kept.get(count, (None, ()))
        if at is None or now - at > FRESH:
            surveyed = await survey(self._providers, any_gpu(count, max_price=MANY))
            # A bid is nobody's price: only what costs what it says is listed.
            offers = [one for one in surveyed.ladder.rungs if not (one.interruptible and one.bids)]
            self._kept[count] = (now, offers)
        return offers

    def _id(self, offer: Offer) -> str:
        return offer.id if offer.provider == self._plain else f"{offer.provider}/{offer.id}"

    # --- templates ---------------------------------------------------------------------------------------------------

    async def make(
        self, spec: TemplateSpec, render: Callable[[PodTemplate], Answer], *, identity: Identity | None
    ) -> Answer:
        """Make a template, once for each identity. Raises InvalidRequest where no provider keeps any."""
        keepers = self._keepers()
        name = self._plain if self._plain in keepers else next(iter(keepers))

        async def begin(_name: str, confirm: Confirm) -> Answer:
            await confirm()
            return render(await keepers[name].create_template(spec, wait=False))

        async def resume(_name: str) -> Answer | None:
            same = [one for one in await keepers[name].templates() if one.name == spec.name]
            return render(same[-1]) if same else None

        return await self._once.serve(identity, Work(draw=lambda: "", begin=begin, resume=resume))

    async def template(self, template_id: str, *, provider: str | None = None) -> PodTemplate:
        """One of them, as it is now; where `provider` is named, one that is there. Raises NotFound, InvalidRequest."""
        replies = await ask_all({name: one.templates for name, one in self._keepers().items()})
        found = next((one for told in replies.answers.values() for one in told if one.id == template_id), None)
        if found is None:
            for error in replies.errors.values():
                raise error  # it may be there
            raise NotFound(f"no template '{template_id}' in the accounts: make one first")
        if provider not in {None, found.provider}:
            raise InvalidRequest(
                f"template '{template_id}' is one of {found.provider}, and the machine is at {provider}: choose both "
                "of one provider"
            )
        return found

    def _keepers(self) -> Mapping[str, HasTemplates]:
        found: dict[str, HasTemplates] = {
            name: one for name, one in self._providers.items() if isinstance(one, HasTemplates)
        }
        if not found:
            raise InvalidRequest("no provider of this service keeps templates")
        return found
