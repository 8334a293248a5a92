"""What can be chosen from: machines by their id, and templates by theirs, over every provider that has some."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from runner_provisioner.domain.markets import PodTemplate, TemplateSpec
from runner_provisioner.domain.offers import ANY_VRAM, GpuRequest, Interruptible, Offer
from runner_provisioner.domain.served import Answer
from runner_provisioner.errors import CapacityUnavailable, InvalidRequest, NotFound, about
from runner_provisioner.ports import Clock, GpuProvider, HasTemplates, starts_over_ssh
from runner_provisioner.services.asking import FOUND, LIMIT, ask_all
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """Machines for rent, and the providers that could not be asked for theirs."""

    machines: Sequence[Machine]
    unasked: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answers:
    at: float  # of the clock, seconds
    offers: Sequence[Offer]
    unasked: frozenset[str]


def any_gpu(count: int, *, max_price: Decimal, models: tuple[str, ...] = ()) -> GpuRequest:
    """A request that every GPU serves."""
    return GpuRequest(
        models=models,
        count=count,
        interruptible=Interruptible.PREFER,
        max_price=max_price,
        min_vram_gb=None if models else ANY_VRAM,
    )


class Shelf:
    """The use cases of lists to choose from."""

    def __init__(self, providers: Mapping[str, GpuProvider], once: Once, *, clock: Clock, named_plainly: str) -> None:
        """Machines of the provider `named_plainly` keep their own ids, and new templates are made there."""
        self._providers = providers
        self._once = once
        self._clock = clock
        self._plain = named_plainly
        self._kept: dict[tuple[int, str | None], _Answers] = {}

    # --- machines ----------------------------------------------------------------------------------------------------

    async def machines(self, *, count: int | None = None, provider: str | None = None) -> Listed:
        """What is for rent, each machine once with the fewest GPUs that it rents out; the cheapest first.

        Those that no template can be used on are last: whoever takes the first machine of a model has a template.
        Raises RemoteError where nobody could be asked.
        """
        counts = COUNTS if count is None else (count,)
        replies = await ask_all({str(one): partial(self._offers, one, provider) for one in counts})
        for error in replies.errors.values():
            raise error
        found: dict[str, Machine] = {}
        for one in counts:
            for offer in replies.answers[str(one)].offers:
                machine = Machine(id=self._id(offer), offer=offer)
                found.setdefault(machine.id, machine)
        return Listed(
            machines=sorted(
                found.values(), key=lambda one: (self._is_bare(one.offer.provider), one.offer.price, one.id)
            ),
            unasked=frozenset[str]().union(*(one.unasked for one in replies.answers.values())),
        )

    def _is_bare(self, provider: str) -> bool:
        """Whether a pod there boots a system of the provider's, whatever image is wanted."""
        return starts_over_ssh(self._providers[provider])

    async def machine(self, machine_id: str, *, count: int | None = None) -> Machine:
        """One of them. Raises CapacityUnavailable where it is not for rent now."""
        named = machine_id.partition("/")[0]
        where = named if named in self._providers and named != machine_id else self._plain
        listed = await self.machines(count=count, provider=where)
        found = {one.id: one for one in listed.machines}
        if machine_id not in found:
            raise CapacityUnavailable(f"machine '{machine_id}' is not for rent now: choose another of the list")
        return found[machine_id]

    async def _offers(self, count: int, provider: str | None) -> _Answers:
        now = self._clock.monotonic()
        kept = (self._kept[key] for key in ((count, None), (count, provider)) if key in self._kept)
        fresh = next((one for one in kept if now - one.at <= FRESH and provider not in one.unasked), None)
        if fresh is not None:
            return fresh
        wanted = {name: one for name, one in self._providers.items() if provider in {None, name}}
        surveyed = await survey(wanted, any_gpu(count, max_price=MANY), limit=LIMIT)
        # A bid is nobody's price: only what costs what it says is listed.
        offers = [one for one in surveyed.ladder.rungs if not (one.interruptible and one.bids)]
        answers = _Answers(at=now, offers=offers, unasked=frozenset(surveyed.passed_over))
        self._kept[count, provider] = answers
        return answers

    def _id(self, offer: Offer) -> str:
        return offer.id if offer.provider == self._plain else f"{offer.provider}/{offer.id}"

    # --- templates ---------------------------------------------------------------------------------------------------

    async def make(
        self, spec: TemplateSpec, render: Callable[[PodTemplate], Answer], *, identity: Identity | None
    ) -> Answer:
        """Make a template, once for each identity. Raises InvalidRequest where no provider keeps any."""

        async def begin(_name: str, confirm: Confirm) -> Answer:
            keeper = self._keeper()
            await confirm()
            return render(await keeper.create_template(spec, wait=False))

        async def resume(_name: str) -> Answer | None:
            same = [one for one in await self._keeper().templates() if _holds(one, spec)]
            return render(same[-1]) if same else None

        return await self._once.serve(identity, Work(draw=lambda: "", begin=begin, resume=resume))

    async def template(self, template_id: str, *, provider: str | None = None) -> PodTemplate:
        """One of them, as it is now. Raises NotFound, InvalidRequest.

        Where `provider` is named it can be used there: it is one of that provider's, or its `spec` tells all of it.
        """
        replies = await ask_all(
            {name: one.templates for name, one in self._keepers().items()},
            patience=FOUND,
            limit=LIMIT,
            enough=lambda told: any(one.id == template_id for one in told),
        )
        found = next((one for told in replies.answers.values() for one in told if one.id == template_id), None)
        if found is None:
            for error in replies.errors.values():
                raise error  # it may be there
            raise NotFound(f"no template '{template_id}' in the accounts: make one first")
        if provider is not None and provider != found.provider:
            self._check_elsewhere(found, provider)
        return found

    def _check_elsewhere(self, found: PodTemplate, provider: str) -> None:
        if self._is_bare(provider):
            why = f"{provider} boots a system of its own and runs no image of a template"
        elif found.spec is None:
            why = "it holds more than an image, a start command and variables that can be told elsewhere"
        else:
            return
        message = f"template '{found.id}' is one of {found.provider}, and the machine is at {provider}: {why}"
        raise about("template", InvalidRequest(f"{message}; choose a machine at {found.provider}"))

    def _keeper(self) -> HasTemplates:
        """Where new ones are made."""
        keepers = self._keepers()
        return keepers[self._plain] if self._plain in keepers else next(iter(keepers.values()))

    def _keepers(self) -> Mapping[str, HasTemplates]:
        found: dict[str, HasTemplates] = {
            name: one for name, one in self._providers.items() if isinstance(one, HasTemplates)
        }
        if not found:
            raise InvalidRequest("no provider of this service keeps templates")
        return found


def _holds(template: PodTemplate, spec: TemplateSpec) -> bool:
    """Whether it may have been made of that; an older one of the same name with something else in it was not."""
    held = template.spec
    if template.name != spec.name:
        return False
    if held is None:
        return True
    same_image = held.image in {spec.image, f"{spec.image}:latest"}  # which is what no tag means
    return same_image and (held.command, set(held.ports)) == (spec.command, set(spec.ports))
