"""Prime Intellect's verbs on the wire, one method for each call that is used (reference: prime 0.18, /api/v1)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, Self, TypeVar
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from runner_provisioner._http import Answer, HttpSession, Pace, Plumbing, Retry
from runner_provisioner.errors import ProtocolViolation, RemoteError, RunnerProvisionerError
from runner_provisioner.logging import get_logger
from runner_provisioner.providers.prime.creating import created
from runner_provisioner.providers.prime.failures import SERVICE, Reader, malformed
from runner_provisioner.providers.prime.inputs import CreateInput
from runner_provisioner.providers.prime.wire import (
    Wire,
    WireDisk,
    WireKey,
    WireOffer,
    WirePast,
    WirePod,
    WireStatus,
    WireWallet,
    page_of,
    parse,
    rows_of,
)

DEFAULT_URL = "https://api.primeintellect.ai"

log = get_logger(__name__)
PAGE = 100  # the most that a page may have
BATCH = 50  # pods read in one request
_MOST_PAGES = 100
_TRIES = 3  # to read a list that changes while it is read
_LOOKS_AT_NOTHING = 2
_PAUSE = 1.0  # seconds between them
# Its limits are not published; SkyPilot has met them.
_PACE = Pace(per_second=5, per_minute=120)

SortBy = Literal["terminatedAt", "createdAt"]
SortOrder = Literal["asc", "desc"]
Query = Mapping[str, "str | int | Sequence[str] | None"]
RowT = TypeVar("RowT", bound=Wire)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferFilter:
    """What to ask the market for; each field under the API's own name, None or empty asks for nothing."""

    regions: tuple[str, ...] = ()
    gpu_count: int | None = None
    gpu_type: str | None = None
    socket: str | None = None
    security: str | None = None
    data_center_id: str | None = None
    cloud_id: str | None = None
    disks: tuple[str, ...] = ()

    def query(self) -> dict[str, str | int | Sequence[str] | None]:
        """As parameters; those with several values are repeated."""
        return {
            "regions": self.regions,
            "gpu_count": self.gpu_count,
            "gpu_type": self.gpu_type,
            "socket": self.socket,
            "security": self.security,
            "data_center_id": self.data_center_id,
            "cloud_id": self.cloud_id,
            "disks": self.disks,
        }


def api_url(url: str) -> str:
    """The address of the API; the prefix `/api/v1` is added where it is missing."""
    parts = urlsplit(url.strip())
    path = parts.path.rstrip("/").removesuffix("/api/v1").removesuffix("/api")
    return urlunsplit((parts.scheme, parts.netloc, f"{path}/api/v1", parts.query, parts.fragment))


class PrimeApi:
    """Every method raises the errors that `failures.TABLE` names.

    Reads and idempotent calls are tried again on transient errors; a create is sent again only when it provably never
    arrived, and raises CreateOutcomeUnknown when a pod may exist. Requests that end a pod never wait for a pace.
    """

    def __init__(
        self,
        session: HttpSession,
        ending: HttpSession,
        *,
        api_key: str,
        plumbing: Plumbing,
        team_id: str | None = None,
    ) -> None:
        """`ending` has no pace; `team_id` is whose wallet pays."""
        self._session = session
        self._ending = ending
        self._reader = Reader(redact=plumbing.redactor.redact)
        self.plumbing = plumbing
        self.team_id = team_id
        self._headers = {"Authorization": f"Bearer {api_key.strip()}"}
        if team_id:
            self._headers["X-Prime-Team-ID"] = team_id
        self.url = session.base_url

    @classmethod
    def connect(
        cls,
        *,
        api_key: str,
        plumbing: Plumbing,
        url: str = DEFAULT_URL,
        team_id: str | None = None,
        pace: Pace | None = _PACE,
    ) -> Self:
        """Open the connections to `url`, with or without `/api/v1`. Raises InvalidRequest for a bad address."""
        base = api_url(url)
        session = HttpSession(service=SERVICE, base_url=base, plumbing=plumbing, pace=pace)
        ending = HttpSession(service=SERVICE, base_url=base, plumbing=plumbing)
        return cls(session, ending, api_key=api_key, plumbing=plumbing, team_id=(team_id or "").strip() or None)

    def __repr__(self) -> str:
        return f"PrimeApi({self.url})"

    async def aclose(self) -> None:
        """Give the connections back."""
        await self._session.aclose()
        await self._ending.aclose()

    # -- the market

    async def offers(self, wanted: OfferFilter) -> tuple[WireOffer, ...]:
        """Every offer of a single node that fits, over all pages.

        "None at all" is asked again: now and then a replica says so and takes it back within seconds (a public client's
        notes of October 2026).
        """
        for look in range(_LOOKS_AT_NOTHING):
            if look and not self.plumbing.tempo.hurried:
                await self.plumbing.clock.sleep(_PAUSE)
            found = await self._offers(wanted)
            if found:
                return found
        return ()

    async def _offers(self, wanted: OfferFilter) -> tuple[WireOffer, ...]:
        found: list[WireOffer] = []
        seen = 0
        for page in range(1, _MOST_PAGES + 1):
            query = {**wanted.query(), "page": page, "page_size": PAGE}
            answer = await self._send("availability", "GET", _path("availability", "gpus", query=query))
            rows, total = page_of(answer.json(), "items", "availability")
            found += _readable(rows)
            seen += len(rows)
            if not rows or (seen >= total if total is not None else len(rows) < PAGE):
                break
        if seen and not found:
            raise malformed("availability", "no offer can be read")
        return tuple(found)

    async def gpu_types(self) -> frozenset[str]:
        """The GPU types that have a price now. What stands under each has had two forms, and is not read."""
        answer = await self._send("gpuSummary", "GET", "availability/gpu-summary")
        body = answer.json()
        if not isinstance(body, dict) or not all(isinstance(rows, (list, dict)) for rows in body.values()):
            raise malformed("gpuSummary", "it is no map of GPU types")
        return frozenset(body)

    # -- pods

    async def create_pod(self, body: CreateInput) -> WirePod:
        """Rent."""
        sent = self._pod_of("createPod", "POST", "pods", body=body)
        return await created(sent, operation="createPod", name=body.pod.name)

    async def _pod_of(self, operation: str, method: str, path: str, *, body: CreateInput) -> WirePod:
        sent = await self._send(operation, method, path, body=body.to_wire(), retry=Retry.CREATE, shown=body.shown())
        return parse(WirePod, sent.json(), operation)

    async def pods(self) -> tuple[WirePod, ...]:
        """Every pod of the account, or of the team, that is not gone."""
        return await self._all(WirePod, "listPods", "pods", key=lambda pod: pod.id)

    async def pod(self, pod_id: str, *, ends: bool = False) -> WirePod:
        """Read one; raises NotFound. `ends`: it is being ended, so that nothing waits for the pace."""
        answer = await self._send("getPod", "GET", _path("pods", pod_id), ends=ends)
        return parse(WirePod, answer.json(), "getPod")

    async def statuses(self, pod_ids: Sequence[str]) -> Mapping[str, WireStatus]:
        """The short form of those among these pods that there are."""
        found: dict[str, WireStatus] = {}
        for start in range(0, len(pod_ids), BATCH):
            query: Query = {"pod_ids": list(pod_ids[start : start + BATCH])}
            answer = await self._send("podStatus", "GET", _path("pods", "status", query=query))
            rows, _ = rows_of(WireStatus, answer.json(), "data", "podStatus")
            found |= {row.pod_id: row for row in rows}
        return found

    async def history(
        self, *, limit: int = PAGE, sort_by: SortBy = "terminatedAt", sort_order: SortOrder = "desc"
    ) -> tuple[WirePast, ...]:
        """The first `limit` pods that have ended, in this order; those that live are left out."""
        found: list[WirePast] = []
        for page in range(_MOST_PAGES):
            query: Query = {"offset": page * PAGE, "limit": PAGE, "sort_by": sort_by, "sort_order": sort_order}
            answer = await self._send("podHistory", "GET", _path("pods", "history", query=query))
            rows, _ = rows_of(WirePast, answer.json(), "data", "podHistory")
            found += [row for row in rows if row.terminated_at is not None]
            if len(rows) < PAGE or len(found) >= limit:
                break
        return tuple(found[: max(0, limit)])

    async def pod_log(self, pod_id: str) -> str:
        """All output that is kept; raises NotFound."""
        return _log_text(await self._send("podLogs", "GET", _path("pods", pod_id, "logs")))

    async def delete_pod(self, pod_id: str) -> None:
        """End a pod for good; it may take a while. Raises NotFound when there is none."""
        _check_done(await self._send("deletePod", "DELETE", _path("pods", pod_id), ends=True))

    # -- the account

    async def ssh_keys(self) -> tuple[WireKey, ...]:
        """The account's public keys."""
        return await self._all(WireKey, "listSshKeys", "ssh_keys", key=lambda key: key.id)

    async def add_ssh_key(self, name: str, public_key: str) -> WireKey:
        """Keep a public key; its id is what `sshKeyId` of a create takes."""
        body = {"name": name, "publicKey": public_key.strip()}
        answer = await self._send("addSshKey", "POST", "ssh_keys", body=body, retry=Retry.CREATE, shown=body)
        return parse(WireKey, answer.json(), "addSshKey")

    async def delete_ssh_key(self, key_id: str) -> None:
        """Forget one; pods that have it keep it. Raises NotFound."""
        _check_done(await self._send("deleteSshKey", "DELETE", _path("ssh_keys", key_id)))

    async def make_primary(self, key_id: str) -> None:
        """Let new pods have this one by themselves. Raises NotFound."""
        body = {"isPrimary": True}
        _check_done(await self._send("primarySshKey", "PATCH", _path("ssh_keys", key_id, "primary"), body=body))

    async def disks(self) -> tuple[WireDisk, ...]:
        """The account's disks."""
        return await self._all(WireDisk, "listDisks", "disks", key=lambda disk: disk.id)

    async def balance(self) -> Decimal:
        """US dollars; also the cheapest check of the credential."""
        answer = await self._send("wallet", "GET", "billing/wallet")
        return parse(WireWallet, answer.json(), "wallet").balance_usd

    # -- one exchange

    async def _all(
        self, model: type[RowT], operation: str, path: str, *, key: Callable[[RowT], str]
    ) -> tuple[RowT, ...]:
        """Every row of a list; from its beginning again when it changed between two pages, for then rows moved."""
        for _ in range(_TRIES):
            found, steady = await self._pages(model, operation, path)
            if steady:
                return tuple({key(row): row for row in found}.values())
        raise malformed(operation, "it changes while it is read")

    async def _pages(self, model: type[RowT], operation: str, path: str) -> tuple[list[RowT], bool]:
        found: list[RowT] = []
        first: int | None = None
        for _ in range(_MOST_PAGES):
            query: Query = {"offset": len(found), "limit": PAGE}
            answer = await self._send(operation, "GET", _path(path, query=query))
            rows, total = rows_of(model, answer.json(), "data", operation)
            if first is not None and total != first:
                return found, False
            first = total
            found += rows
            if len(rows) < PAGE or (total is not None and len(found) >= total):
                return found, True
        raise malformed(operation, f"it has more than {_MOST_PAGES} pages")

    async def _send(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        body: object | None = None,
        retry: Retry = Retry.IDEMPOTENT,
        shown: Mapping[str, object] | None = None,
        ends: bool = False,
    ) -> Answer:
        answer = await (self._ending if ends else self._session).send(
            operation,
            method,
            path,
            json=body,
            headers=self._headers,
            retry=retry,
            classify=lambda got: _remote(self._reader.error(got, operation)),
            variables=shown,
        )
        error = self._reader.error(answer, operation)
        if error is not None:
            raise error
        return answer


def _remote(error: RunnerProvisionerError | None) -> RemoteError | None:
    """The part of the check that the retries need; an InvalidRequest is no failure of the service."""
    return error if isinstance(error, RemoteError) else None


def _path(*parts: str, query: Query | None = None) -> str:
    """The address of a thing; parts are names, not paths. Prime redirects what has another slash than the CLI's."""
    path = "/".join(quote(part, safe="") for part in parts)
    given = {name: value for name, value in (query or {}).items() if value not in (None, (), [])}
    return f"{path}?{urlencode(given, doseq=True)}" if given else path


def _readable(rows: Sequence[object]) -> Iterator[WireOffer]:
    for row in rows:
        try:
            yield parse(WireOffer, row, "availability")
        except ProtocolViolation as error:
            log.debug("prime_offer_unreadable", reason=str(error))


def _check_done(answer: Answer) -> None:
    """Raise ProtocolViolation for a good answer that is not the service's: a proxy's page has done nothing."""
    if answer.body.strip():
        answer.json()


def _log_text(answer: Answer) -> str:
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "text/html":
        raise malformed("podLogs", "it is a web page")
    text = answer.body.decode("utf-8", "replace")
    if kind != "application/json":
        return text
    try:
        found = json.loads(text)
    except ValueError:
        return text
    inner = (
        next((found[name] for name in ("logs", "data") if name in found), None) if isinstance(found, dict) else found
    )
    if isinstance(inner, list) and all(isinstance(line, str) for line in inner):
        return "\n".join(inner) + "\n"
    if not isinstance(inner, str):
        raise malformed("podLogs", "it is no text")
    return inner
