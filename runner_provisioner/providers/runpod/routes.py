"""Which of RunPod's APIs serves which verb: decided here and nowhere else, by what each of them can do.

GraphQL alone takes bids and price ceilings, tells the balance and gives a pod a kill time, and it ends early in 2027
(docs.runpod.io, migration guide); REST v2 alone has logs, billing and templates. Whatever both can do is GraphQL's
while it answers, unless REST is preferred. A 410 from GraphQL, or a refused interruptible pod, is remembered for a
day, in this process and on disk for the next ones, so that a mistake heals.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from runner_provisioner.errors import ApiRetired, SpotDiscontinued, StoreError
from runner_provisioner.logging import get_logger
from runner_provisioner.ports import Clock
from runner_provisioner.providers.runpod.failures import SERVICE
from runner_provisioner.providers.runpod.kept_file import KeptFile
from runner_provisioner.providers.runpod.moments import moment, stamp

FILE_NAME = "runpod-apis.json"
LIFETIME = timedelta(days=1)

T = TypeVar("T")

log = get_logger(__name__)


class Api(StrEnum):
    """One of the two generations that this adapter speaks (REST v1 is ending and not spoken)."""

    GRAPHQL = "graphql"
    REST = "rest"


class Verb(StrEnum):
    """Something that a caller wants of RunPod."""

    OFFERS = "tell what is for rent"
    RENT = "rent on demand"
    RENT_ENDING = "rent on demand a pod that ends by itself"
    BID = "rent at a bid"
    READ = "read pods"
    END = "end pods"
    STOP = "stop pods"
    RESUME = "resume pods"
    BID_RESUME = "resume pods at a bid"
    BALANCE = "tell the balance"
    GPU_TYPES = "list GPU models"
    SSH_KEYS = "list SSH keys"
    LOGS = "give logs"
    BILLING = "tell what pods cost"
    TEMPLATES = "keep templates"


ONLY_GRAPHQL = frozenset({Verb.BID, Verb.BID_RESUME, Verb.BALANCE})
ONLY_REST = frozenset({Verb.LOGS, Verb.BILLING, Verb.TEMPLATES})
# REST serves these too, in its way: without bids among the offers, without the kill time.
BETTER_GRAPHQL = frozenset({Verb.OFFERS, Verb.RENT_ENDING})


class Routes:
    """What is known of the two APIs, and the choice that follows from it."""

    def __init__(self, *, url: str, clock: Clock, folder: Path | None = None, prefer: Api = Api.GRAPHQL) -> None:
        """`folder` is where it is kept for other processes, under the address `url`; None keeps it in this one."""
        self._clock = clock
        self._prefer = prefer
        self._file = KeptFile(folder, FILE_NAME, url=url, lifetime=LIFETIME, clock=clock)
        self._known: dict[str, datetime] | None = None

    @property
    def graphql_retired(self) -> bool:
        """Whether GraphQL has said within the last day that it is gone."""
        return self._remembers("graphql_retired")

    @property
    def spot_gone(self) -> bool:
        """Whether RunPod has said within the last day that it offers no interruptible pods."""
        return self._remembers("spot_gone") or self.graphql_retired

    @property
    def kill_time(self) -> bool:
        """Whether a pod that is rented now ends by itself at its time: REST v2 has no such field."""
        return self.api(Verb.RENT_ENDING) is Api.GRAPHQL

    def api(self, verb: Verb) -> Api:
        """Who serves it now."""
        if verb in ONLY_REST:
            return Api.REST
        if verb in ONLY_GRAPHQL:
            return Api.GRAPHQL
        preferred = Api.GRAPHQL if verb in BETTER_GRAPHQL else self._prefer
        return Api.REST if self.graphql_retired else preferred

    async def serve(self, verb: Verb, *, graphql: Callable[[], Awaitable[T]], rest: Callable[[], Awaitable[T]]) -> T:
        """Let the one that serves the verb do it, and the other one when GraphQL turns out to be gone (nothing done).

        Raises what they raise.
        """
        if self.api(verb) is Api.REST:
            return await rest()
        try:
            return await graphql()
        except ApiRetired:
            self.note_graphql_retired()
        return await rest()

    async def only_graphql(self, verb: Verb, call: Callable[[], Awaitable[T]]) -> T:
        """Do what GraphQL alone can. Raises ApiRetired, without asking where that is known already.

        A bid is refused with SpotDiscontinued then, as it is where RunPod itself has refused one.
        """
        bids = verb in {Verb.BID, Verb.BID_RESUME}
        if bids and self.spot_gone:
            raise no_spot()
        if self.graphql_retired:
            raise _only_graphql_could(verb)
        try:
            return await call()
        except SpotDiscontinued:
            self.note_spot_gone()
            raise
        except ApiRetired as error:
            self.note_graphql_retired()
            raise (no_spot() if bids else _only_graphql_could(verb)) from error

    def note_graphql_retired(self) -> None:
        """GraphQL has answered 410."""
        log.warning("runpod_graphql_retired", use="REST v2")
        self._note("graphql_retired")

    def note_spot_gone(self) -> None:
        """An interruptible pod was refused for good."""
        self._note("spot_gone")

    def _remembers(self, what: str) -> bool:
        since = self._facts().get(what)
        return since is not None and timedelta() <= self._clock.now() - since < LIFETIME

    def _note(self, what: str) -> None:
        facts = self._facts()
        facts[what] = self._clock.now()
        try:
            self._file.save({name: stamp(since) for name, since in facts.items() if self._remembers(name)})
        except StoreError as error:  # a full disk must not keep a pod alive that is about to be ended
            log.warning("runpod_apis_not_kept", reason=str(error))

    def _facts(self) -> dict[str, datetime]:
        if self._known is None:
            kept = self._file.load() or {}
            found = {name: moment(kept.get(name)) for name in ("graphql_retired", "spot_gone")}
            self._known = {name: since for name, since in found.items() if since is not None}
        return self._known


def no_spot() -> SpotDiscontinued:
    """The refusal of an interruptible pod that need not be asked for."""
    message = "RunPod no longer offers interruptible pods: use --interruptible prefer or never"
    return SpotDiscontinued(message, service=SERVICE, operation="podRentInterruptable", code="SPOT_DISCONTINUED")


def _only_graphql_could(verb: Verb) -> ApiRetired:
    message = f"RunPod's GraphQL API has been switched off, and REST v2 cannot {verb.value}: see RunPod's console"
    return ApiRetired(message, service=SERVICE, operation=verb.name.lower(), code="API_RETIRED")
