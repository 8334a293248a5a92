"""Reading GitHub's JSON: each field is there with its type, or the answer is a ProtocolViolation."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from runner_provisioner.errors import ProtocolViolation
from runner_provisioner.github.errors import SERVICE

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")


class Fields:
    """One JSON object of an answer to `operation`."""

    def __init__(self, value: object, *, operation: str, request_id: str | None = None) -> None:
        """ProtocolViolation unless `value` is an object."""
        self._operation = operation
        self._request_id = request_id
        self._values: Mapping[str, object] = self._expect(value, dict, "the answer")

    def text(self, key: str) -> str:
        """A string."""
        return self._expect(self._values.get(key), str, key)

    def text_or_none(self, key: str) -> str | None:
        """A string, or None where the field is missing, null or empty."""
        return self.text(key) if self._values.get(key) else None

    def number(self, key: str) -> int:
        """A whole number."""
        value = self._values.get(key)
        if isinstance(value, bool):
            raise self._violation(key)
        return self._expect(value, int, key)

    def flag(self, key: str) -> bool:
        """True or false."""
        return self._expect(self._values.get(key), bool, key)

    def time(self, key: str) -> datetime:
        """A moment, aware, in UTC."""
        try:
            moment = datetime.fromisoformat(self.text(key))
        except ValueError:
            raise self._violation(key) from None
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)

    def objects(self, key: str) -> list[Fields]:
        """A list of objects."""
        return [self._within(value) for value in self._expect(self._values.get(key), list, key)]

    def words(self, key: str) -> dict[str, str]:
        """An object that maps strings to strings; empty where the field is missing."""
        found = self._values.get(key)
        return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}

    def _within(self, value: object) -> Fields:
        return Fields(value, operation=self._operation, request_id=self._request_id)

    def _expect(self, value: object, kind: type[T], what: str) -> T:
        if not isinstance(value, kind):
            raise self._violation(what)
        return value

    def _violation(self, what: str) -> ProtocolViolation:
        message = f"GitHub's answer to {self._operation} is not what its documentation says: look at {what}"
        return ProtocolViolation(message, service=SERVICE, operation=self._operation, request_id=self._request_id)
