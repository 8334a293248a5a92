"""Values that callers send, checked as far as the service can; what a provider refuses is told by it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

from fastapi import Header, Path, Request, Response
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from runner_provisioner.controller.failures import FieldRefused
from runner_provisioner.controller.parts import parts_of
from runner_provisioner.domain.money import BID_STEP, MOST
from runner_provisioner.domain.pods import PodId
from runner_provisioner.domain.served import Answer, Contract, RequestRef
from runner_provisioner.errors import InvalidRequest, about
from runner_provisioner.logging import hide
from runner_provisioner.services.once import Identity
from runner_provisioner.services.orders import Drawing, Made, Render, Wish

LONGEST_HOURS = 30 * 24
MOST_GB = 100_000
MOST_GPUS = 64
MOST_VARIABLES = 200


def _printable(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("one line without signs that cannot be printed, and no blanks around it")
    return text


def _no_null(text: str) -> str:
    if "\0" in text:
        raise ValueError("no null characters")
    return text


def unseen(text: str) -> str:
    """Keep it out of all that is said of this request, from now on: a provider may repeat what it was sent."""
    hide(text)
    return text


def _few(found: Any) -> Any:  # noqa: ANN401 - whatever was sent
    """Looked at before the variables are: a million of them must cost nothing."""
    if isinstance(found, dict) and len(found) > MOST_VARIABLES:
        raise ValueError(f"at most {MOST_VARIABLES} variables")
    return found


Line = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
Text = Annotated[str, Field(max_length=32_000), AfterValidator(_no_null)]
Hidden = Annotated[Text, AfterValidator(unseen)]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=200)]
Environment = Annotated[dict[Variable, Hidden], Field(max_length=MOST_VARIABLES), BeforeValidator(_few)]
Gigabytes = Annotated[int, Field(ge=0, le=MOST_GB, strict=True)]
Count = Annotated[int, Field(ge=1, le=MOST_GPUS, strict=True)]
Port = Annotated[int, Field(ge=1, le=65535, strict=True)]
Dollars = Annotated[Decimal, Field(ge=BID_STEP, le=MOST, allow_inf_nan=False)]
Hours = Annotated[int, Field(ge=1, le=LONGEST_HOURS, strict=True)]
Id = Annotated[PodId, Path(pattern=r"^[A-Za-z0-9_-]{1,80}$", description="As the create has told it.")]
TemplateId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,80}$", description="As the create has told it.")]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="The same key never rents twice; a repeated request gets the first one's answer.",
    ),
]


def without_nulls(data: object) -> object:
    """What was sent without what was sent as null: a client that has no value for a field may say so."""
    return {name: value for name, value in data.items() if value is not None} if isinstance(data, dict) else data


class Body(BaseModel):
    """What all bodies share: a name that is not known is refused, since a slip of the pen may cost money."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
    nulls = model_validator(mode="before")(without_nulls)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A create as it was sent: what makes it the same as another one, and how long its pod lives."""

    contract: Contract
    label: str
    body: BaseModel
    key: str | None
    hours: int


async def rented(request: Request, sent: Sent, drawing: Drawing, render: Render) -> Response:
    """Rent what `drawing` draws up, once for each idempotency key of each caller, and answer."""
    parts = parts_of(request)
    request.state.target = parts.redact(sent.label)  # until it has an id

    async def checked() -> Wish:
        wish = await drawing()
        request.state.provider = wish.providers[0] if len(wish.providers) == 1 else ""
        if wish.request.max_price > parts.max_price:
            said = f"max price {wish.request.max_price}: this service rents for at most {parts.max_price} USD/h"
            raise about("max-price", InvalidRequest(said))
        return wish

    def noted(made: Made) -> Answer:
        request.state.target, request.state.provider = made.pod.id, made.pod.provider
        return render(made)

    identity = identity_of(request, sent.body, sent.key, operation=sent.contract.value)
    answer = await parts.orders.rent(
        checked, noted, lifetime=timedelta(hours=sent.hours), key=request.state.caller.key, identity=identity
    )
    return Response(answer.body, status_code=answer.status, media_type="application/json")


def identity_of(request: Request, body: BaseModel, key: str | None, *, operation: str) -> Identity | None:
    """Who sent what for what; None without a key.

    The body's digest depends neither on the order of its fields nor on defaults that are written out. A later version
    that has a field more still knows the body.
    """
    if key is None:
        return None
    text = json.dumps(body.model_dump(mode="json", exclude_defaults=True), sort_keys=True)
    ref = RequestRef(caller=request.state.caller.id, operation=operation, key=key)
    return Identity(ref=ref, digest=hashlib.sha256(text.encode()).hexdigest())


def answer_of(body: object, status: int = 200) -> Answer:
    """An answer that is kept for who repeats the request."""
    return Answer(status=status, body=bytes(JSONResponse(body).body).decode())


def provider_named(request: Request, name: str | None, *place: str) -> tuple[str, ...]:
    """The provider as a narrowing; none for None. Raises FieldRefused."""
    if name is None:
        return ()
    providers = parts_of(request).providers
    if name not in providers:
        raise FieldRefused(f"no provider '{name}': this service has {', '.join(providers)}", place=place)
    return (name,)
