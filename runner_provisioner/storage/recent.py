"""Answers that are good for a moment: a list that many ask for at once is read once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from runner_provisioner.ports import Clock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """The last answers to some questions, `most` of them, each good for `seconds` unless something was changed."""

    def __init__(self, clock: Clock, *, seconds: float, most: int) -> None:
        self._clock = clock
        self._seconds = seconds
        self._most = most
        self._kept: dict[K, tuple[float, V]] = {}
        self._changes = 0

    async def get(self, question: K, ask: Callable[[], Awaitable[V]]) -> V:
        """The answer that is kept, else the one that is asked for now."""
        kept = self._kept.get(question)
        begin, changes = self._clock.monotonic(), self._changes
        if kept is not None and begin - kept[0] < self._seconds:
            return kept[1]
        answer = await ask()
        # What was asked before a change may be answered after it.
        if changes == self._changes:
            if len(self._kept) >= self._most:
                self._kept.clear()
            self._kept[question] = (begin, answer)
        return answer

    def forget(self) -> None:
        """Something was changed: no answer holds any more."""
        self._changes += 1
        self._kept.clear()
