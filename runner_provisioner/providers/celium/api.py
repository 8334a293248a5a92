"""Lium's REST API on the wire, one method for each call that is used (lium.io 0.32.0)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self
from urllib.parse import quote

from runner_provisioner._http import Answer, HttpSession, Pace, Plumbing, Retry
from runner_provisioner.errors import (
    CreateOutcomeUnknown,
    InvalidRequest,
    NotFound,
    ProtocolViolation,
    RemoteError,
    RunnerProvisionerError,
    TransientError,
)
from runner_provisioner.logging import Redactor, get_logger
from runner_provisioner.providers.celium.addresses import base_url
from runner_provisioner.providers.celium.failures import NO_METHOD, NO_ROUTE, RENT, SERVICE, Reader
from runner_provisioner.providers.celium.wire import (
    WireAccount,
    WireEvent,
    WireExecutor,
    WireKey,
    WireMachine,
    WirePod,
    WireRented,
    WireTemplate,
    malformed,
    parse,
    parse_all,
)

POLLS = Pace(per_second=10, per_minute=60)  # Lium's cap for an account
_NO_CONTENT = 204

log = get_logger(__name__)
Json = Mapping[str, object]


@dataclass(frozen=True)
class Rented:
    """The answer to a rent: the pod, or just its id; `replayed`: it answered an earlier request with the same key."""

    pod_id: str
    pod: WirePod | None
    replayed: bool


class ReplayedRefusal(Exception):
    """An earlier request with the same key was refused for this `cause`: nothing was rented, and now may differ."""

    def __init__(self, cause: RunnerProvisionerError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class CeliumApi:
    """Reads and idempotent calls are tried again on transient errors; a rent only when it provably never arrived.

    Every method raises the errors that `failures.TABLE` names. No address that is asked ends in a slash, and no
    redirect to another scheme, host or port is followed: Lium answers a slash with one to plain http, and whoever
    followed it would show the key to everybody on the way.
    """

    def __init__(self, session: HttpSession, *, ending: HttpSession, api_key: str, redactor: Redactor) -> None:
        """`ending` is for calls that end pods, and has no pace; `connect` builds both."""
        self._session = session
        self._ending = ending
        self._headers = {"X-API-KEY": api_key.strip()}
        self._reader = Reader(redact=redactor.redact)
        self.redactor = redactor

    @classmethod
    def connect(cls, *, url: str, api_key: str, plumbing: Plumbing, pace: Pace | None = None) -> Self:
        """Build the sessions; the key is kept out of every log from here on. `url` ends in /api.

        Raises InvalidRequest when the address is neither https nor on loopback.
        """
        plumbing.redactor.add(api_key.strip())
        address = base_url(url)
        session = HttpSession(service=SERVICE, base_url=address, plumbing=plumbing, pace=pace or POLLS)
        ending = HttpSession(service=SERVICE, base_url=address, plumbing=plumbing)
        return cls(session, ending=ending, api_key=api_key, redactor=plumbing.redactor)

    def __repr__(self) -> str:
        return f"CeliumApi({self.url})"

    @property
    def url(self) -> str:
        """Where it asks."""
        return self._session.base_url

    async def aclose(self) -> None:
        """Give the connections back."""
        await self._session.aclose()
        await self._ending.aclose()

    # -- nodes

    async def executors(self, filters: Mapping[str, str | int]) -> tuple[WireExecutor, ...]:
        """Nodes with something free that the filters leave; one that cannot be read is left out."""
        answer = await self._send("listExecutors", "GET", "executors", params={"view": "summary", **filters})
        rows = answer.json()
        if not isinstance(rows, list):
            raise malformed("listExecutors", "no list")
        found = []
        for row in rows:
            try:
                found.append(parse(WireExecutor, row, "listExecutors"))
            except ProtocolViolation as error:
                log.debug("celium_node_unreadable", reason=str(error))
        if rows and not found:
            raise malformed("listExecutors", "no node can be read")
        return tuple(found)

    async def machines(self) -> tuple[str, ...]:
        """The name of every kind of GPU there is, free or not."""
        answer = await self._send("listMachines", "GET", "machines")
        return tuple(row.name for row in parse_all(WireMachine, answer.json(), "listMachines"))

    # -- pods

    async def rent(self, executor_id: str, body: Json, *, key: str) -> Rented:
        """Rent GPUs of a node. The same key and body rent once, however often they are sent.

        Raises CreateOutcomeUnknown when a pod may exist, ReplayedRefusal, KeyReused, and what else says that nothing
        was rented.
        """
        seen: list[Answer] = []
        try:
            answer = await self._send(
                RENT,
                "POST",
                _path("executors", executor_id, "rent"),
                json=body,
                headers={"Idempotency-Key": key},
                retry=Retry.CREATE,
                seen=seen,
            )
            return _rented(answer)
        except (CreateOutcomeUnknown, TransientError, ProtocolViolation):
            raise
        except (RemoteError, InvalidRequest) as error:
            if seen and _replayed(seen[-1]):
                raise ReplayedRefusal(error) from error
            raise

    async def pods(self) -> tuple[WirePod, ...]:
        """Every pod of the account; may lag behind a rent by 20 s."""
        try:
            answer = await self._send("listPods", "GET", "pods")
        except InvalidRequest as error:
            raise malformed("listPods", str(error)) from error  # nothing was asked that could be wrong
        return parse_all(WirePod, answer.json(), "listPods")

    async def pod(self, pod_id: str) -> WirePod | None:
        """Read one; None = it does not exist."""
        try:
            answer = await self._send("getPod", "GET", _path("pods", pod_id))
        except NotFound:
            return None
        except (ProtocolViolation, InvalidRequest) as error:
            await self._check_absent(pod_id, error)
            return None
        found = answer.json()
        return None if found is None else parse(WirePod, found, "getPod")

    async def delete_pod(self, pod_id: str) -> None:
        """End a pod for good. NotFound when there is none."""
        try:
            _check_json(await self._send("deletePod", "DELETE", _path("pods", pod_id), ends=True))
        except (ProtocolViolation, InvalidRequest) as error:
            await self._check_absent(pod_id, error)
            raise NotFound(str(error), service=SERVICE, operation="deletePod", code="NOT_FOUND") from error

    async def _check_absent(self, pod_id: str, error: ProtocolViolation | InvalidRequest) -> None:
        """Raise ProtocolViolation unless the list, the source of truth, does not know the pod.

        And unless the answer was a bare 404, or said that something about the id is wrong: an id may have to be a UUID.
        """
        if not pod_id:
            raise error
        silent = isinstance(error, ProtocolViolation) and error.code != NO_ROUTE
        if not silent and all(pod.id != pod_id for pod in await self.pods()):
            return
        if isinstance(error, ProtocolViolation):
            raise error
        raise malformed("getPod", str(error)) from error

    async def schedule_removal(self, pod_id: str, at: datetime) -> None:
        """Have Lium end it at that time."""
        body = {"removal_scheduled_at": at.astimezone(UTC).isoformat()}
        _check_json(await self._send("scheduleRemoval", "POST", _path("pods", pod_id, "schedule-removal"), json=body))

    async def events(self, pod_id: str) -> tuple[WireEvent, ...]:
        """What happened to it, oldest first, also when it is gone; empty where nobody knows."""
        try:
            answer = await self._send("podEvents", "GET", _path("pods", pod_id, "events"))
        except NotFound:
            return ()
        except ProtocolViolation as error:
            if error.code not in {NO_ROUTE, NO_METHOD}:
                raise
            return ()
        rows = answer.json()
        if not isinstance(rows, list):
            raise malformed("podEvents", "no list")
        return tuple(parse(WireEvent, row, "podEvents") for row in rows if isinstance(row, dict))

    async def log(self, pod_id: str, *, tail: int) -> str:
        """The last lines of its output. NotFound."""
        params: dict[str, str | int] = {"tail": tail, "follow": "false"}
        answer = await self._send("podLogs", "GET", _path("pods", pod_id, "logs"), params=params)
        return answer.body.decode("utf-8", "replace")

    # -- the account

    async def templates(self) -> tuple[WireTemplate, ...]:
        """The account's and the public ones."""
        answer = await self._send("listTemplates", "GET", "templates")
        return parse_all(WireTemplate, answer.json(), "listTemplates")

    async def template(self, template_id: str) -> WireTemplate:
        """Read one; NotFound."""
        answer = await self._send("getTemplate", "GET", _path("templates", template_id))
        return parse(WireTemplate, answer.json(), "getTemplate")

    async def create_template(self, body: Json) -> WireTemplate:
        """Make one."""
        answer = await self._send("createTemplate", "POST", "templates", json=body, retry=Retry.CREATE)
        return parse(WireTemplate, answer.json(), "createTemplate")

    async def update_template(self, template_id: str, body: Json) -> None:
        """Give it other contents; a pod that was made from it is rebooted (lium.io 0.32.0, edit). NotFound."""
        _check_json(await self._send("updateTemplate", "PUT", _path("templates", template_id), json=body))

    async def delete_template(self, template_id: str) -> bool:
        """Remove it; False where the API cannot. NotFound."""
        try:
            _check_json(await self._send("deleteTemplate", "DELETE", _path("templates", template_id)))
        except ProtocolViolation as error:
            if error.code not in {NO_ROUTE, NO_METHOD}:
                raise
            return False
        return True

    async def ssh_keys(self) -> tuple[str, ...]:
        """The account's public keys."""
        answer = await self._send("listSshKeys", "GET", "ssh-keys")
        return tuple(row.public_key for row in parse_all(WireKey, answer.json(), "listSshKeys"))

    async def account(self) -> WireAccount:
        """Whose key it is, and the balance; the cheapest check of the credential."""
        return parse(WireAccount, (await self._send("getUser", "GET", "users/me")).json(), "getUser")

    # -- one exchange

    async def _send(  # noqa: PLR0913 - one call says all there is to say about a request
        self,
        operation: str,
        method: str,
        path: str,
        *,
        json: Json | None = None,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        retry: Retry = Retry.IDEMPOTENT,
        ends: bool = False,
        seen: list[Answer] | None = None,
    ) -> Answer:
        answer = await (self._ending if ends else self._session).send(
            operation,
            method,
            path,
            json=json,
            params=params,
            headers={**self._headers, **(headers or {})},
            retry=retry,
            classify=self._transport_view(operation, seen),
            variables=None if json is None else {"fields": sorted(json)},
        )
        error = self._reader.error(answer, operation)
        if error is not None:
            raise error
        return answer

    def _transport_view(self, operation: str, seen: list[Answer] | None) -> Callable[[Answer], RemoteError | None]:
        """The part of the check that the retries need; an InvalidRequest is no failure of the service."""

        def classify(answer: Answer) -> RemoteError | None:
            if seen is not None:
                seen.append(answer)
            error = self._reader.error(answer, operation)
            return error if isinstance(error, RemoteError) else None

        return classify


def _rented(answer: Answer) -> Rented:
    body = answer.json()
    if isinstance(body, dict) and body.get("id"):
        pod = parse(WirePod, body, RENT)
        return Rented(pod.id, pod, _replayed(answer))
    return Rented(parse(WireRented, body, RENT).pod_id, None, _replayed(answer))


def _replayed(answer: Answer) -> bool:
    return answer.headers.get("idempotent-replayed", "").strip().lower() == "true"


def _check_json(answer: Answer) -> None:
    """Raise ProtocolViolation for a good answer that is not Lium's: a proxy's page has done nothing."""
    if answer.status != _NO_CONTENT:
        answer.json()


def _path(*parts: str) -> str:
    """Raises InvalidRequest for an empty part: the path would hold a slash too many."""
    if not all(parts):
        raise InvalidRequest("an empty id names nothing at Lium: give the whole id")
    return "/".join(quote(part, safe="") for part in parts)
