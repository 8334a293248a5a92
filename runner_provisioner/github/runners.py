"""Runners of one repository or one organisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from runner_provisioner._http import Retry
from runner_provisioner.domain.runners import Registration, Runner, RunnerDownload, RunnerId, RunnerState
from runner_provisioner.errors import (
    AuthenticationFailed,
    InvalidRequest,
    PermissionDenied,
    ProtocolViolation,
    RemoteError,
    RunnerGroupInvisible,
    TransientError,
)
from runner_provisioner.github.addresses import scope_path
from runner_provisioner.github.credentials import runner_access
from runner_provisioner.github.downloads import chosen, pinned
from runner_provisioner.github.errors import ABSENT, SERVICE
from runner_provisioner.github.fields import Fields
from runner_provisioner.github.wire import read
from runner_provisioner.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from runner_provisioner._http import Answer
    from runner_provisioner.domain.names import Scope
    from runner_provisioner.github.credentials import Credential
    from runner_provisioner.github.wire import GitHubApi

_REUSED_FOR = 600.0  # seconds: of a token's hour, at least fifty minutes are left for the pod to use it
_GONE = 404
_DEFAULT_GROUP = 1  # the only one of a repository (docs: create configuration for a just-in-time runner)


class GitHubRunners:
    """`ports.RunnerRegistry` on GitHub's REST API."""

    def __init__(
        self,
        scope: Scope,
        *,
        api: GitHubApi,
        credential: Credential,
        runner_group: str | None = None,
        repository: str | None = None,
    ) -> None:
        """`runner_group` is an organisation's; `repository` (owner/name) is the one that must be able to use it."""
        self._scope = scope
        self._path = f"{scope_path(scope)}/actions"
        self._api = api
        self._credential = credential
        self._access = runner_access(scope, repository)
        self._group = runner_group
        self._repository = repository
        self._lock = anyio.Lock()
        self._registration: tuple[Registration, float] | None = None

    async def check(self) -> None:
        """Prove the credential and its permission, and that the repository may use the runner group."""
        if self._group is not None and self._scope.repository is not None:
            raise InvalidRequest(
                f"--runner-group '{self._group}': only an organisation has groups; leave it out, or use --organization"
            )
        if self._credential.proves_access:
            await self._credential.bearer(self._access)
        else:
            # Nothing else proves the right to register, and the token made here is the one that is used.
            await self.register()
        if self._group is not None:
            await self._check_group(self._group)
        elif self._scope.repository is None and self._repository is not None:
            await self._check_default_group()

    async def register(self) -> Registration:
        """A registration token with at least fifty minutes left."""
        async with self._lock:
            now = self._api.clock.monotonic()
            if self._registration is None or now - self._registration[1] >= _REUSED_FOR:
                self._registration = await self._token("createRegistrationToken", "registration-token"), now
            return self._registration[0]

    async def jit_config(self, name: str, labels: Sequence[str]) -> str:
        """See the port; GitHub never gives the same configuration twice."""
        operation = "generateJitConfig"
        bearer = await self._credential.bearer(self._access)
        body = {"name": name, "runner_group_id": await self._group_id(), "labels": list(labels)}
        answer = await self._api.call(
            operation,
            "POST",
            f"{self._path}/runners/generate-jitconfig",
            bearer=bearer,
            json=body,
            # The runner may exist although the answer was lost (ubicloud#692).
            retry=Retry.CREATE,
        )
        config = read(operation, answer).text("encoded_jit_config")
        self._api.redactor.add(config)
        return config

    async def _group_id(self) -> int:
        if self._scope.repository is not None:
            return _DEFAULT_GROUP
        groups = await self._groups()
        if self._group is None:
            return next((group.number("id") for group in groups if group.flag("default")), _DEFAULT_GROUP)
        await self._check_group(self._group)
        wanted = self._group.lower()
        return next(group.number("id") for group in groups if group.text("name").lower() == wanted)

    async def remove_token(self) -> Registration:
        """A token that `config.sh remove` takes, for an hour."""
        return await self._token("createRemoveToken", "remove-token")

    async def download(self, architecture: str = "x64") -> RunnerDownload:
        """What GitHub offers this account for Linux; the pinned release when it offers none that can be verified."""
        fallback = pinned(architecture)
        operation = "listDownloads"
        try:
            answer = await self._call(operation, "GET", "/runners/downloads")
            body = answer.json()
            found = chosen(_objects(operation, body, answer), architecture)
        except RemoteError as error:
            if _matters(error):
                raise
            found = None
        if found is None:
            get_logger(__name__).warning("runner_download_pinned", version=fallback.version, architecture=architecture)
        return found or fallback

    async def find(self, name: str) -> Runner | None:
        """The runner of exactly this name."""
        # An Enterprise Server of before the filter lists everything: the comparison is ours.
        named = await self._list({"name": name})
        return next((runner for runner in named if runner.name == name), None)

    async def get(self, runner_id: RunnerId) -> Runner | None:
        """Read one by id."""
        answer = await self._call("getRunner", "GET", f"/runners/{runner_id:d}", accepted={_GONE})
        return None if answer.status == _GONE else _runner(read("getRunner", answer))

    async def list(self, prefix: str = "") -> Sequence[Runner]:
        """All whose name begins so, over all pages."""
        return [runner for runner in await self._list() if runner.name.startswith(prefix)]

    async def remove(self, runner_id: RunnerId) -> None:
        """Delete the registration; gone already is success; RunnerBusy while a job holds it (422)."""
        await self._call("removeRunner", "DELETE", f"/runners/{runner_id:d}", accepted={_GONE})

    async def groups(self) -> Sequence[str]:
        """The names of the organisation's runner groups that the repository may use, of all where none is known."""
        return [group.text("name") for group in await self._groups()]

    async def _groups(self) -> Sequence[Fields]:
        bearer = await self._credential.bearer(self._access)
        # GitHub takes the bare name of the repository here (docs: list self-hosted runner groups).
        name = self._repository.partition("/")[2] if self._repository else ""
        params = {"visible_to_repository": name} if name else {}
        return await self._api.pages(
            "listRunnerGroups", f"{self._path}/runner-groups", "runner_groups", bearer=bearer, params=params
        )

    async def _check_group(self, wanted: str) -> None:
        names = await self.groups()
        # GitHub compares the names of groups without regard to case when a runner is configured with one.
        if wanted.lower() not in {name.lower() for name in names}:
            who = self._repository or self._scope.owner
            choice = ", ".join(f"'{name}'" for name in names) or "none"
            message = (
                f"{who} may not use a runner group '{wanted}' (it may use: {choice}):"
                " name one of those, or give the repository access in the organisation's settings"
            )
            raise RunnerGroupInvisible(message, service=SERVICE, operation="listRunnerGroups")

    async def _check_default_group(self) -> None:
        try:
            groups = await self._groups()
        except PermissionDenied as error:
            if error.code != ABSENT:
                raise
            return  # an Enterprise Server of before groups has none that could be closed
        if not any(group.flag("default") for group in groups):
            choice = ", ".join(f"'{group.text('name')}'" for group in groups) or "none"
            message = (
                f"{self._repository} may not use the organisation's default runner group (it may use: {choice}):"
                " name one of those with --runner-group, or give the repository access in the organisation's settings"
            )
            raise RunnerGroupInvisible(message, service=SERVICE, operation="listRunnerGroups")

    async def _token(self, operation: str, path: str) -> Registration:
        found = read(operation, await self._call(operation, "POST", f"/runners/{path}"))
        token = found.text("token")
        self._api.redactor.add(token)
        return Registration(url=self._scope.url, token=token, expires_at=found.time("expires_at"))

    async def _list(self, params: Mapping[str, str | int] | None = None) -> Sequence[Runner]:
        bearer = await self._credential.bearer(self._access)
        found = await self._api.pages("listRunners", f"{self._path}/runners", "runners", bearer=bearer, params=params)
        return [_runner(fields) for fields in found]

    async def _call(self, operation: str, method: str, path: str, *, accepted: Collection[int] = ()) -> Answer:
        bearer = await self._credential.bearer(self._access)
        return await self._api.call(operation, method, f"{self._path}{path}", bearer=bearer, accepted=accepted)


def _matters(error: RemoteError) -> bool:
    """Whether what failed the look for a download will fail the registration as well, or may pass by waiting."""
    hidden = isinstance(error, PermissionDenied) and error.code == ABSENT
    return isinstance(error, TransientError | AuthenticationFailed | PermissionDenied) and not hidden


def _objects(operation: str, body: object, answer: Answer) -> Sequence[Fields]:
    if not isinstance(body, list):
        raise ProtocolViolation("GitHub's list of downloads is no list", service=SERVICE, operation=operation)
    return [Fields(value, operation=operation, request_id=answer.request_id) for value in body]


def _runner(found: Fields) -> Runner:
    online = found.text("status") == "online"
    idle = RunnerState.IDLE if online else RunnerState.OFFLINE
    return Runner(
        id=RunnerId(found.number("id")),
        name=found.text("name"),
        state=RunnerState.BUSY if found.flag("busy") else idle,
        labels=tuple(label.text("name") for label in found.objects("labels")),
        online=online,
    )
