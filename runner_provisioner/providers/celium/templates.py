"""Templates: made, waited for, and taken away again, as far as Lium's API lets anybody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runner_provisioner.domain.markets import LeftTemplate, PodTemplate, TemplateSpec
from runner_provisioner.domain.pods import PodTags
from runner_provisioner.errors import InvalidRequest, NotFound, RemoteError, Timeout, TransientError
from runner_provisioner.logging import get_logger
from runner_provisioner.ports import Clock
from runner_provisioner.providers.celium.api import CeliumApi
from runner_provisioner.providers.celium.failures import SERVICE
from runner_provisioner.providers.celium.requests import REMOVED, TEMPLATE_NAME, emptied, template_of
from runner_provisioner.providers.celium.start_command import StartLine, command_of
from runner_provisioner.providers.celium.states import PROVIDER
from runner_provisioner.providers.celium.wire import WireTemplate

PENDING = "VERIFY_PENDING"
REFUSED = "VERIFY_FAILED"
# The service no longer verifies what users make, so that theirs stay as they are (lium.io 0.32.0).
USABLE = frozenset({"CREATED", "UPDATED", "VERIFY_SUCCESS"})
PATIENCE = 15 * 60.0  # seconds: verification took 5 to 15 minutes when there was one (the service's specification)

log = get_logger(__name__)


class Templates:
    """The account's templates. Their environment, with the tags in it, is read once: nobody changes one of ours."""

    def __init__(self, api: CeliumApi, *, clock: Clock) -> None:
        self._api = api
        self._clock = clock
        self._known: dict[str, Mapping[str, str]] = {}
        self._user: str | None = None
        self._removable = True

    async def once(self, name: str, contents: Mapping[str, object]) -> str:
        """The one-time template of this name, ready for a rent: one that is there already, or a new one.

        One that is there was made for the same pod before, by a call whose answer was lost or by a process that has
        ended; it is not changed, since a pod that runs from it would be rebooted.
        """
        # Anybody can publish one of any name.
        there = [one for one in await self._api.templates() if one.name == name and await self._is_own(one)]
        found = there[0] if there else None
        made = found or await self._api.create_template(contents)
        env = contents.get("environment")
        if found is None and isinstance(env, Mapping):
            self._known[made.id] = env
        return (await self._ready_or_removed(made)).id

    async def _ready_or_removed(self, template: WireTemplate) -> WireTemplate:
        try:
            return await self.ready(template)
        except InvalidRequest:
            await self.discard(template.id)
            raise

    async def ready(self, template: WireTemplate) -> WireTemplate:
        """Wait until a pod can be made of it. InvalidRequest when it never will be, Timeout after 15 minutes."""
        waited = 0.0
        while (status := (template.status or "").upper()) == PENDING:
            if waited >= PATIENCE:
                message = (
                    f"Lium has not verified template {template.id} within {PATIENCE / 60:.0f} min: try again later"
                )
                raise Timeout(message, service=SERVICE, operation="getTemplate", code="TEMPLATE_NOT_VERIFIED")
            pause = _pause(waited)
            await self._clock.sleep(pause)
            waited += pause
            template = await self._api.template(template.id)
        if status == REFUSED:
            raise InvalidRequest(f"Lium could not verify the image {template.image}: check its name and its registry")
        return template

    async def environment(self, template: WireTemplate | None) -> Mapping[str, str]:
        """What pods of this template were given; empty where it cannot be read."""
        if template is None:
            return {}
        if template.environment is not None:
            return template.environment
        if template.id not in self._known:
            # A pod's row shows the beginning of its template only, or all of it (the service's specification).
            self._known[template.id] = await self._read(template.id)
        return self._known[template.id]

    async def _read(self, template_id: str) -> Mapping[str, str]:
        try:
            return (await self._api.template(template_id)).environment or {}
        except TransientError:
            raise
        except RemoteError as error:
            log.debug("celium_template_unreadable", template_id=template_id, reason=str(error))
            return {}

    # -- of the user's own

    async def all(self) -> Sequence[PodTemplate]:
        """Those of the account."""
        rows = await self._api.templates()
        return [_told(row) for row in rows if row.name != REMOVED and await self._is_own(row)]

    async def _is_own(self, row: WireTemplate) -> bool:
        if row.user_id is None:
            return bool(row.is_private)
        if self._user is None:
            self._user = (await self._api.account()).id
        return row.user_id == self._user

    async def create(self, spec: TemplateSpec, *, wait: bool = True) -> PodTemplate:
        """Make one, and wait until it is usable, unless told not to; InvalidRequest."""
        made = await self._api.create_template(template_of(spec))
        if not wait:
            return _told(made)
        return _told(await self._ready_or_removed(made))

    async def delete(self, template_id: str) -> None:
        """Remove it, or leave nothing in it. InvalidRequest while a pod runs from it."""
        try:
            row = await self._api.template(template_id)
        except NotFound:
            log.debug("template_gone_already", template_id=template_id)
            return
        using = [pod.pod_name or pod.id for pod in await self._api.pods() if pod.template and pod.template.id == row.id]
        if using:
            raise InvalidRequest(f"a pod runs from template {template_id}: end {', '.join(using)} first")
        await self._remove(row.id, row.image)

    async def left(self, owner8: str) -> Sequence[LeftTemplate]:
        """Those made for a pod of this owner's that no pod runs from."""
        rows = [row for row in await self._api.templates() if is_ours(row.name) and row.name != REMOVED]
        # A stranger's may bear any tags, and nobody here could remove it.
        found = [(row, PodTags.from_env(await self.environment(row))) for row in rows if await self._is_own(row)]
        mine = {row.id: (row.name, tags) for row, tags in found if tags is not None and tags.owner == owner8}
        used = {pod.template.id for pod in await self._api.pods() if pod.template} if mine else frozenset()
        return [
            LeftTemplate(provider=PROVIDER, id=template_id, name=name, tags=tags)
            for template_id, (name, tags) in mine.items()
            if template_id not in used
        ]

    async def discard(self, template_id: str) -> None:
        """Remove one of which nothing was rented; it may hold a token. A failure is told and no more."""
        self._known.pop(template_id, None)
        try:
            await self._remove(template_id, None)
        except (RemoteError, InvalidRequest) as error:
            log.warning("celium_template_left", template_id=template_id, reason=str(error))

    async def _remove(self, template_id: str, image: str | None) -> None:
        """The API of lium.io 0.32.0 can make and change templates, and remove none: then it is emptied and renamed."""
        try:
            if self._removable:
                self._removable = await self._api.delete_template(template_id)
            if not self._removable:
                await self._api.update_template(template_id, emptied(image))
        except NotFound:
            log.debug("template_gone_already", template_id=template_id)


def is_ours(name: str) -> bool:
    """Whether a template of this name was made for one pod by this program."""
    return name.startswith(TEMPLATE_NAME)


def _pause(waited: float) -> float:
    """Seconds to the next look (lium.io 0.32.0)."""
    if waited < 40:  # noqa: PLR2004 - seconds
        return 1.0
    return 2.0 if waited < 90 else 10.0  # noqa: PLR2004 - seconds


def _told(row: WireTemplate) -> PodTemplate:
    status = row.status or ""
    return PodTemplate(
        provider=PROVIDER,
        id=row.id,
        name=row.name,
        image=row.image,
        status=status,
        usable=status.upper() in USABLE,
        spec=_spec(row),
    )


def _spec(row: WireTemplate) -> TemplateSpec | None:
    """What it holds; None where that is told in part, or says what this program cannot say elsewhere."""
    entrypoint, startup = row.entrypoint or "", row.startup_commands
    if row.image is None or startup is None or row.environment is None or is_ours(row.name):
        return None
    command = command_of(StartLine(entrypoint=entrypoint, startup=startup, environment={}))
    if command is None and (entrypoint or startup):
        return None
    ports = tuple(f"{port}/tcp" for port in row.internal_ports or ())
    return TemplateSpec(name=row.name, image=row.image, command=command, env=row.environment, ports=ports)
