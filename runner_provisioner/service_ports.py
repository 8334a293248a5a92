"""What the HTTP service needs to keep; one database has all of it.

As in `ports`: "does not exist" is `None` or an empty sequence, "could not find out" is a StoreError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal

    from runner_provisioner.domain.api_keys import ApiKey
    from runner_provisioner.domain.leases import PodRef
    from runner_provisioner.domain.pods import PodId
    from runner_provisioner.domain.served import (
        Answer,
        AuditEntry,
        Claim,
        IdempotentRequest,
        PodPage,
        PodQuery,
        ServedPod,
    )


class ApiKeys(Protocol):
    """The service's own keys. Raises StoreError."""

    async def add(self, key: ApiKey) -> None:
        """Keep it; StaleWrite when its id or the name of a key that is not revoked is taken."""
        ...

    async def all(self) -> Sequence[ApiKey]:
        """Every key, also those that are revoked or expired; oldest first."""
        ...

    async def revoke(self, key_id: str, at: datetime) -> ApiKey | None:
        """Make it useless, and give what is kept of it; the first moment stays. None when there is none of that id."""
        ...


class IdempotentRequests(Protocol):
    """Requests that must not be served twice, across processes and their deaths. Raises StoreError."""

    async def claim(self, wanted: IdempotentRequest, *, now: datetime) -> Claim:
        """Judge it and keep it, in one step: of several that come at once one may BEGIN, or RESUME."""
        ...

    async def hold(self, request: IdempotentRequest, until: datetime) -> None:
        """Go on serving it until then. StaleWrite when another process has taken it over, or it was answered."""
        ...

    async def answer(self, request: IdempotentRequest, answer: Answer) -> None:
        """Keep what it was answered. StaleWrite as in `hold`."""
        ...

    async def withdraw(self, request: IdempotentRequest) -> None:
        """Forget it: surely nothing was rented, and the same key may try again. StaleWrite as in `hold`."""
        ...

    async def abandoned(self, now: datetime) -> Sequence[IdempotentRequest]:
        """Those without an answer whose holder is taken to be dead, oldest first."""
        ...


class ServedPods(Protocol):
    """The pods that were made over HTTP. Raises StoreError."""

    async def intend(self, pod: ServedPod, *, budget: Decimal | None = None) -> None:
        """Keep it before it is rented.

        Raises BudgetExceeded, keeping nothing, when the pods of its key would then count for more than `budget` USD,
        also when several are intended at once. StaleWrite when there is one of its name.
        """
        ...

    async def sending(self, name: str, at: datetime, *, provider: str) -> bool:
        """A create of it is about to be sent there; False when it must not be: it was given up or is not kept."""
        ...

    async def rented(self, pod: ServedPod) -> bool:
        """It exists: keep all of it anew, but for an end that is known. StaleWrite when it was not intended.

        False when it had been given up: it must be ended. Of this and `give_up` the first one counts.
        """
        ...

    async def give_up(self, name: str, at: datetime) -> bool:
        """It was not found: whoever finds it from now on ends it, and until then it counts for nothing.

        False when it is known to be rented: then it is somebody's, and stays.
        """
        ...

    async def withdraw(self, name: str) -> None:
        """Forget an intended pod of which surely nothing was rented; one that is rented stays."""
        ...

    async def ended(self, pod: PodRef, at: datetime) -> None:
        """Its end is confirmed; the first end stays, and a pod that nobody made over HTTP is left out."""
        ...

    async def reopen(self, pod: PodRef) -> None:
        """It lives, though its end was noted: that is forgotten, and it counts again for what was reserved."""
        ...

    async def get(self, pod_id: PodId, *, provider: str | None = None) -> ServedPod | None:
        """The last of that id, at whatever provider unless one is named."""
        ...

    async def named(self, name: str) -> ServedPod | None:
        """That of this name."""
        ...

    async def list(self, query: PodQuery) -> PodPage:
        """Those that are or were rented; may be a second behind what other processes have written."""
        ...

    async def unsettled(self, before: datetime) -> Sequence[ServedPod]:
        """Those that are neither rented nor withdrawn, oldest first.

        They were intended, and last about to be sent, before then, or have been given up.
        """
        ...

    async def counted(self, key_id: str) -> Decimal:
        """What the pods of a key count for against its budget, US dollars."""
        ...

    async def spent(self) -> Mapping[str, Decimal]:
        """What all that have ended have cost, US dollars, by provider."""
        ...


class AuditLog(Protocol):
    """Every write over HTTP. Raises StoreError."""

    async def note(self, entry: AuditEntry) -> None:
        """Add it; nothing is ever changed or taken away but for its age."""
        ...

    async def entries(self, since: datetime, *, limit: int = 1000) -> Sequence[AuditEntry]:
        """The latest ones not before then, oldest first."""
        ...


class ServiceState(Protocol):
    """All that the service keeps, in one database."""

    @property
    def keys(self) -> ApiKeys:
        """The service's own keys."""
        ...

    @property
    def requests(self) -> IdempotentRequests:
        """Requests that must not be served twice."""
        ...

    @property
    def pods(self) -> ServedPods:
        """The pods that were made over HTTP."""
        ...

    @property
    def audit(self) -> AuditLog:
        """Every write."""
        ...

    async def check(self) -> None:
        """Fail with StoreError where nothing could be kept now; opens the database and brings it to the newest form."""
        ...

    async def aclose(self) -> None:
        """Close it."""
        ...
