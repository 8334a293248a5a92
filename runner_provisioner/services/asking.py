"""Asking several services the same thing side by side."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import anyio

from runner_provisioner.errors import RemoteError, RunnerProvisionerError, Timeout, UnknownGpu

LIMIT = 25.0
"""Seconds that one provider may cost whoever reads over HTTP: a proxy in between gives up after a minute."""
FOUND = 1.0
"""Seconds for all others to say that they have it too, once one has what such a reader looks for."""

T = TypeVar("T")


@dataclass(slots=True)
class Replies(Generic[T]):
    """What each of them has answered, or why not, by name in the order in which they were asked."""

    answers: dict[str, T] = field(default_factory=dict)
    errors: dict[str, RunnerProvisionerError] = field(default_factory=dict)

    def in_order(self, names: Mapping[str, object]) -> Replies[T]:
        """The same, sorted as `names` are."""
        return Replies(
            {name: self.answers[name] for name in names if name in self.answers},
            {name: self.errors[name] for name in names if name in self.errors},
        )


async def ask_all(
    asked: Mapping[str, Callable[[], Awaitable[T]]],
    *,
    patience: float | None = None,
    limit: float | None = None,
    enough: Callable[[T], bool] = lambda _answer: True,
) -> Replies[T]:
    """Ask all of them at once: it takes as long as the slowest.

    With `patience` one that hangs costs no more than so many seconds, counted from the beginning, once another has
    answered what is `enough`; it is then a Timeout among the errors. Until then each gets the time that it takes, at
    most `limit` seconds if that is given.
    """
    replies: Replies[T] = Replies()
    begin = anyio.current_time()
    latest = begin + (math.inf if limit is None else limit)
    scopes = {name: anyio.CancelScope(deadline=latest) for name in asked}

    def hurry() -> None:
        if patience is not None and any(map(enough, replies.answers.values())):
            for scope in scopes.values():
                scope.deadline = min(latest, begin + patience)

    async def ask(name: str, question: Callable[[], Awaitable[T]]) -> None:
        with scopes[name] as scope:
            try:
                replies.answers[name] = await question()
            except (RemoteError, UnknownGpu) as error:
                replies.errors[name] = error
            hurry()
        if scope.cancelled_caught:
            replies.errors[name] = Timeout(
                f"{name} has not answered within {scope.deadline - begin:.3g} s", service=name, code="NETWORK_TIMEOUT"
            )

    async with anyio.create_task_group() as group:
        for name, question in asked.items():
            group.start_soon(ask, name, question)
    return replies.in_order(asked)
