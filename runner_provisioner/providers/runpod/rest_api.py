"""RunPod's REST v2 on the wire, one method for each call that is used (docs.runpod.io/api-reference-v2)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import Literal
from urllib.parse import quote

from runner_provisioner._http import Answer, HttpSession, Plumbing, Retry
from runner_provisioner.errors import (
    InvalidRequest,
    NotFound,
    ProtocolViolation,
    RateLimited,
    RemoteError,
    RunnerProvisionerError,
)
from runner_provisioner.providers.runpod.creating import created
from runner_provisioner.providers.runpod.failures import SERVICE, Reader
from runner_provisioner.providers.runpod.moments import stamp
from runner_provisioner.providers.runpod.quota import Quota
from runner_provisioner.providers.runpod.reading import malformed
from runner_provisioner.providers.runpod.rest_requests import CreateInput, TemplateInput
from runner_provisioner.providers.runpod.rest_wire import (
    RestBill,
    RestGpuType,
    RestPod,
    RestTemplate,
    RestVolume,
)
from runner_provisioner.providers.runpod.sse import Event, EventReader
from runner_provisioner.providers.runpod.wire import ModelT, parse, parse_all

Action = Literal["start", "stop", "restart"]
_SPARE = 5  # requests that looking leaves for renting and ending
_NO_CONTENT, _NOT_FOUND = 204, 404
_NO_ROUTE = re.compile(r"\broute\b|cannot (get|post|put|delete)\b|page not found", re.IGNORECASE)
_COMMAND = re.compile(r"\b(entrypoint|cmd)\b")


class RestApi:
    """Reads and idempotent calls are tried again on transient errors; a create only when it provably never arrived.

    Every method raises the errors that `failures.TABLE` names; a 404 is NotFound when RunPod itself says so, never
    when a proxy or a wrong address does. While RunPod says that no request is left, the next one waits, save those that
    end a pod.
    """

    def __init__(
        self,
        *,
        open_session: Callable[[], HttpSession],
        open_ending: Callable[[], HttpSession],
        api_key: str,
        reader: Reader,
        plumbing: Plumbing,
    ) -> None:
        """The sessions are opened when they are needed first; `open_ending` opens one without a pace."""
        self._open_session = open_session
        self._open_ending = open_ending
        self._session: HttpSession | None = None
        self._ending: HttpSession | None = None
        self._reader = reader
        self._plumbing = plumbing
        self._quota = Quota(plumbing.clock)
        self._headers = {"Authorization": f"Bearer {api_key.strip()}"}
        self._whole_command = True

    def __repr__(self) -> str:
        return "RestApi()"

    async def aclose(self) -> None:
        """Give the connections back."""
        for session in (self._session, self._ending):
            if session is not None:
                await session.aclose()

    # -- pods

    async def create_pod(self, make: Callable[[bool], CreateInput]) -> RestPod:
        """Rent; `make` is told whether the command may replace the image's entrypoint.

        That is what REST v2 took from dstack 0.22.5, though its document of September 2026 does not name it: where it
        is refused (422, nothing rented), the command goes as `args`, now and from then on.
        """
        body = make(self._whole_command)
        try:
            return await self._create(body)
        except InvalidRequest as error:
            if body.entrypoint is None or not _COMMAND.search(str(error)):
                raise
        self._whole_command = False
        return await self._create(make(False))

    async def _create(self, body: CreateInput) -> RestPod:
        sent = self._send("createPod", "POST", "pods", json=body.to_wire(), retry=Retry.CREATE, shown=_loggable(body))
        return await created(_pod_of(sent, "createPod"), operation="createPod", name=body.name)

    async def pods(self) -> tuple[RestPod, ...]:
        """Every pod of the account."""
        answer = await self._send("listPods", "GET", "pods")
        return _listed(RestPod, answer, "pods", "listPods")

    async def pod(self, pod_id: str) -> RestPod | None:
        """Read one; None = it does not exist, which is a 404 or, while it is torn down, `null`."""
        try:
            answer = await self._send("getPod", "GET", _path("pods", pod_id))
        except NotFound:
            return None
        found = answer.json()
        return None if found is None else parse(RestPod, found, "getPod")

    async def delete_pod(self, pod_id: str) -> None:
        """End a pod for good. NotFound when there is none."""
        _check_gone(await self._send("deletePod", "DELETE", _path("pods", pod_id), ends=True))

    async def act(self, pod_id: str, action: Action) -> RestPod:
        """Start, stop or restart it. NotFound; InvalidRequest when its state does not allow that."""
        body = {"action": action}
        # A start rents a GPU again.
        retry = Retry.CREATE if action == "start" else Retry.IDEMPOTENT
        sent = self._send("podAction", "POST", _path("pods", pod_id, "action"), json=body, retry=retry, shown=body)
        return await _pod_of(sent, "podAction")

    @asynccontextmanager
    async def log(
        self, pod_id: str, *, tail: int | None = None, last_event_id: str = ""
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """The pod's log as it is written; it does not end by itself while the pod is there. Raises NotFound.

        It begins with the last `tail` lines (at most 5000), or at an earlier event.
        """
        params: dict[str, str | int] = {"source": "container"}
        headers = {**self._headers, "Accept": "text/event-stream"}
        if last_event_id:
            headers["Last-Event-ID"] = last_event_id
        elif tail is not None:
            params["tail"] = tail
        await self._wait("podLogs", spare=_SPARE)
        stream = self._opened().stream(
            "podLogs",
            _path("pods", pod_id, "logs"),
            params=params,
            headers=headers,
            classify=self._transport_view("podLogs"),
        )
        async with stream as lines:
            yield _events(lines)

    # -- the catalogue

    async def gpu_types(self) -> tuple[RestGpuType, ...]:
        """Every GPU model with its list prices."""
        answer = await self._send("listGpuTypes", "GET", "catalog/gpus")
        return _listed(RestGpuType, answer, "gpus", "listGpuTypes")

    async def availability(
        self, *, count: int, cloud: str, country: str | None = None, min_cuda: str | None = None
    ) -> tuple[RestGpuType, ...]:
        """Every GPU model with what is free of it for a pod of `count`, in one cloud (SECURE or COMMUNITY)."""
        # Without the product the answer is a 400.
        params: dict[str, str | int] = {"include": "AVAILABILITY", "product": "POD", "count": count, "cloud": cloud}
        if country is not None:
            params["countryCodes"] = country
        if min_cuda is not None:
            params["minCudaVersion"] = min_cuda
        answer = await self._send("listGpuTypes", "GET", "catalog/gpus", params=params)
        return _listed(RestGpuType, answer, "gpus", "listGpuTypes")

    async def network_volumes(self) -> tuple[RestVolume, ...]:
        """The account's network volumes and where they lie."""
        answer = await self._send("listNetworkVolumes", "GET", "network-volumes")
        return _listed(RestVolume, answer, "networkVolumes", "listNetworkVolumes")

    # -- the account

    async def pod_bills(self, since: datetime, *, bucket: str = "hour") -> tuple[RestBill, ...]:
        """What each pod was billed since then; the first span begins at the full `bucket` before `since`."""
        params = {"startTime": stamp(since), "bucketSize": bucket}
        answer = await self._send("listPodBilling", "GET", "billing/pods", params=params)
        return _listed(RestBill, answer, "records", "listPodBilling")

    async def ssh_keys(self) -> tuple[str, ...]:
        """The account's public keys; also the cheapest check of the credential (dstack-0.22.5)."""
        return _keys(await self._send("getSshKeys", "GET", "account/ssh-keys"))

    async def replace_ssh_keys(self, keys: Sequence[str]) -> tuple[str, ...]:
        """Make these the account's public keys; those left out are removed."""
        body = {"keys": list(keys)}
        return _keys(await self._send("updateSshKeys", "PUT", "account/ssh-keys", json=body))

    async def templates(self) -> tuple[RestTemplate, ...]:
        """The account's templates, for pods and for workers."""
        answer = await self._send("listTemplates", "GET", "templates")
        return _listed(RestTemplate, answer, "templates", "listTemplates")

    async def create_template(self, template: TemplateInput) -> RestTemplate:
        """Make a template for pods."""
        answer = await self._send(
            "createTemplate",
            "POST",
            "templates",
            json=template.to_wire(),
            retry=Retry.CREATE,
            shown={"name": template.name},
        )
        return parse(RestTemplate, answer.json(), "createTemplate")

    async def delete_template(self, template_id: str) -> None:
        """Remove one. NotFound when there is none."""
        _check_gone(await self._send("deleteTemplate", "DELETE", _path("templates", template_id)))

    # -- one exchange

    async def _send(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        json: object | None = None,
        params: Mapping[str, str | int] | None = None,
        retry: Retry = Retry.IDEMPOTENT,
        shown: Mapping[str, object] | None = None,
        ends: bool = False,
    ) -> Answer:
        if not ends:
            await self._wait(operation, spare=_SPARE if method == "GET" else 0)
        answer = await (self._to_end() if ends else self._opened()).send(
            operation,
            method,
            path,
            json=json,
            params=params,
            headers=self._headers,
            retry=retry,
            classify=self._transport_view(operation),
            variables=shown,
        )
        error = self._error(answer, operation)
        if error is not None:
            raise error
        return answer

    async def _wait(self, operation: str, *, spare: int) -> None:
        """Until RunPod allows another request and `spare` more; raises RateLimited when that is too long."""
        seconds = self._quota.wait(spare=spare)
        tempo = self._plumbing.tempo
        if seconds <= 0 or tempo.hurried:
            return
        if seconds > tempo.max_told_delay:
            message = f"RunPod allows no request for {seconds:.0f} s more: wait and try again"
            raise RateLimited(message, service=SERVICE, operation=operation, code="HELD_BACK", retry_after=seconds)
        await self._plumbing.clock.sleep(seconds)

    def _opened(self) -> HttpSession:
        self._session = self._session or self._open_session()
        return self._session

    def _to_end(self) -> HttpSession:
        self._ending = self._ending or self._open_ending()
        return self._ending

    def _transport_view(self, operation: str) -> Callable[[Answer], RemoteError | None]:
        """The part of the check that the retries need; an InvalidRequest is no failure of the service."""

        def classify(answer: Answer) -> RemoteError | None:
            self._quota.note(answer.headers)
            error = self._error(answer, operation)
            return error if isinstance(error, RemoteError) else None

        return classify

    def _error(self, answer: Answer, operation: str) -> RunnerProvisionerError | None:
        error = self._reader.error(answer, operation)
        if answer.status != _NOT_FOUND or isinstance(error, NotFound):
            return error
        said = _problem(answer)
        if not said or _NO_ROUTE.search(said):
            return error  # a gateway's 404 must never pass for "gone already"
        message = f"RunPod knows no such thing: look the id up (it said: {self._reader.redact(said)[:120]})"
        return NotFound(message, service=SERVICE, operation=operation, code="NOT_FOUND")


def _problem(answer: Answer) -> str:
    """What a problem document says; "" when it is none."""
    try:
        body = answer.json()
    except ProtocolViolation:
        return ""
    parts = [body.get("title"), body.get("detail")] if isinstance(body, dict) else []
    return ": ".join(part for part in parts if isinstance(part, str))


async def _events(lines: AsyncIterator[str]) -> AsyncIterator[Event]:
    reader = EventReader()
    async for line in lines:
        event = reader.feed(line)
        if event is not None:
            yield event


async def _pod_of(sent: Awaitable[Answer], operation: str) -> RestPod:
    found = (await sent).json()
    if found is None:
        raise malformed(operation, "it names no pod")
    return parse(RestPod, found, operation)


def _check_gone(answer: Answer) -> None:
    """Raise ProtocolViolation for a good answer that is not RunPod's: a proxy's page has ended nothing."""
    if answer.status != _NO_CONTENT:
        answer.json()


def _path(*parts: str) -> str:
    return "/".join(quote(part, safe="") for part in parts)


def _listed(model: type[ModelT], answer: Answer, field: str, operation: str) -> tuple[ModelT, ...]:
    body = answer.json()
    return parse_all(model, body.get(field) if isinstance(body, dict) else None, operation)


def _keys(answer: Answer) -> tuple[str, ...]:
    body = answer.json()
    keys = body.get("keys") if isinstance(body, dict) else None
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise malformed(answer.operation, "it has no list of keys")
    return tuple(keys)


def _loggable(body: CreateInput) -> dict[str, object]:
    """What may be logged of a create: of the environment only names, of the command nothing."""
    hidden = {"args", "entrypoint", "cmd"}
    shown = {name: value for name, value in body.to_wire().items() if name not in hidden}
    return {**shown, "env": list(body.env)}


def total(bills: Sequence[RestBill]) -> dict[str, Decimal]:
    """US dollars by pod."""
    found: dict[str, Decimal] = {}
    for bill in bills:
        found[bill.pod_id] = found.get(bill.pod_id, Decimal(0)) + bill.total_amount
    return found
