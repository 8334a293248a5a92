"""Values that callers send, checked as far as the service can; what a provider refuses is told by it."""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from typing import Annotated

from fastapi import Header, Path, Request, Response
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from runner_provisioner._redaction import looks_secret
from runner_provisioner.controller.failures import FieldRefused
from runner_provisioner.controller.parts import parts_of
from runner_provisioner.domain.money import BID_STEP, MOST
from runner_provisioner.domain.pods import PodId
from runner_provisioner.domain.served import Answer, RequestRef
from runner_provisioner.errors import InvalidRequest, about
from runner_provisioner.services.once import Identity
from runner_provisioner.services.orders import Made, Render, Wish

LONGEST_HOURS = 30 * 24
MOST_GB = 100_000
MOST_GPUS = 64


def _printable(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("one line without signs that cannot be printed, and no blanks around it")
    return text


def _no_null(text: str) -> str:
    if "\0" in text:
        raise ValueError("no null characters")
    return text


Line = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
Text = Annotated[str, Field(max_length=32_000), AfterValidator(_no_null)]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=200)]
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


async def rented(request: Request, wish: Wish, body: BaseModel, key: str | None, render: Render) -> Response:
    """Rent it, once for each idempotency key of each caller, and answer."""
    parts = parts_of(request)
    if wish.request.max_price > parts.max_price:
        said = f"max price {wish.request.max_price}: this service rents for at most {parts.max_price} USD/h"
        raise about("max-price", InvalidRequest(said))

    for name, value in wish.spec.env.items():
        if looks_secret(name):
            parts.keep_out(value)  # a provider may repeat it in what it says of a create

    def noted(made: Made) -> Answer:
        request.state.target = made.pod.id
        return render(made)

    identity = identity_of(request, body, key, operation=wish.contract.value)
    answer = await parts.orders.rent(wish, noted, key=request.state.caller.key, identity=identity)
    return Response(answer.body, status_code=answer.status, media_type="application/json")


def identity_of(request: Request, body: BaseModel, key: str | None, *, operation: str) -> Identity | None:
    """Who sent what for what; None without a key. The body's digest does not depend on the order of its fields."""
    if key is None:
        return None
    text = json.dumps(body.model_dump(mode="json", exclude_unset=True), sort_keys=True)
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
