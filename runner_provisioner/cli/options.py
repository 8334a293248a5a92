"""Options of the command line, made from the fields of a request."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, TypeVar

import click

from runner_provisioner.domain.bids import Bid
from runner_provisioner.domain.durations import parse_duration, show_duration
from runner_provisioner.domain.money import MOST
from runner_provisioner.domain.request import options as fields_of
from runner_provisioner.errors import InvalidRequest

F = TypeVar("F", bound=Callable[..., Any])


class Duration(click.ParamType[timedelta]):
    """90s, 10m, 6h15m."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:  # noqa: ANN401 - click's signature
        """Read it, or fail with the forms that exist."""
        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(value)
        except InvalidRequest as error:
            self.fail(str(error), param, ctx)


class Price(click.ParamType[Decimal]):
    """US dollars."""

    name = "usd"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:  # noqa: ANN401 - click's signature
        """Read it exactly; no infinities, no slips of the keyboard."""
        try:
            price = Decimal(str(value))
        except InvalidOperation:
            price = Decimal("NaN")
        if not price.is_finite():
            self.fail(f"'{value}' is not a price: write for example 0.45", param, ctx)
        if not 0 <= price <= MOST:
            self.fail(f"'{value}': give at most {MOST} USD, and nothing below 0", param, ctx)
        return price


class BidText(click.ParamType[Bid]):
    """0.25, min+10%, 60% of on-demand."""

    name = "bid"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Bid:  # noqa: ANN401 - click's signature
        """Read it, or fail with the forms that exist."""
        if isinstance(value, Bid):
            return value
        try:
            return Bid.parse(str(value))
        except InvalidRequest as error:
            self.fail(str(error), param, ctx)


class NameValue(click.ParamType[tuple[str, str]]):
    """NAME=VALUE."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:  # noqa: ANN401 - click's signature
        """Split it at the first equals sign."""
        if isinstance(value, tuple):
            return value
        name, sign, text = value.partition("=")
        if not sign or not name.isidentifier():
            # What it is instead may be a line of a secret, cut where no mask fits any more.
            self.fail("an entry is not NAME=VALUE: a name has letters, digits and underscores", param, ctx)
        return name, text


def request_options(cls: type) -> Callable[[F], F]:
    """Give a command the options of a request's fields."""
    hints = typing.get_type_hints(cls)

    def decorate(command: F) -> F:
        for field in reversed(fields_of(cls)):
            command = _option(field, hints[field.name])(command)
        return command

    return decorate


def request_of(cls: type[Any], values: Mapping[str, Any]) -> Any:  # noqa: ANN401 - the class that was asked for
    """Build the request from what click parsed; options left out keep the field's default."""
    given: dict[str, Any] = {}
    for field in fields_of(cls):
        value = values.get(field.name)
        if value is None or value == ():
            continue
        given[field.name] = dict(value) if field.default_factory is not MISSING else value
    return cls(**given)


def _option(field: Field[Any], hint: Any) -> Callable[[F], F]:  # noqa: ANN401 - a type of any kind
    if hint is bool:
        return click.option(f"--{field.name.replace('_', '-')}", field.name, is_flag=True, help=field.metadata["help"])
    many = bool(field.metadata["many"])
    shown = _shown_default(field)
    help_text = field.metadata["help"] + (f"  [default: {shown}]" if shown else "")
    return click.option(
        f"--{field.name.replace('_', '-')}",
        field.name,
        type=_click_type(hint),
        multiple=many,
        default=None,
        metavar=field.metadata["metavar"] or None,
        help=help_text,
    )


def _shown_default(field: Field[Any]) -> str:
    default = field.default
    if default is MISSING or default is None or default == ():
        return ""
    if isinstance(default, timedelta):
        return show_duration(default)
    return ", ".join(default) if isinstance(default, tuple) else str(default)


_TYPES: Mapping[Any, Callable[[], click.ParamType[Any]]] = {timedelta: Duration, Decimal: Price, Bid: BidText}


def _click_type(hint: Any) -> click.ParamType[Any]:  # noqa: ANN401 - a type of any kind
    """The click type of a field's annotation; the inner type of a tuple or an optional."""
    if typing.get_origin(hint) is Mapping:
        return NameValue()
    inner = [one for one in typing.get_args(hint) if one not in {types.NoneType, ...}]
    kind = inner[0] if inner else hint
    if kind in _TYPES:
        return _TYPES[kind]()
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return click.Choice(list(kind), case_sensitive=False)
    return click.INT if kind is int else click.STRING
