"""From an order to a pod: its template, the rent that rents once, and what has to follow at once."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from typing import NoReturn, TypeVar

from runner_provisioner.domain.offers import Offer
from runner_provisioner.domain.pods import PodSpec
from runner_provisioner.errors import (
    CreateOutcomeUnknown,
    InvalidRequest,
    NotFound,
    ProtocolViolation,
    ProviderError,
    RemoteError,
    RunnerProvisionerError,
    ServiceUnavailable,
    TransientError,
    Unreachable,
)
from runner_provisioner.logging import get_logger
from runner_provisioner.ports import Clock
from runner_provisioner.providers.celium.api import CeliumApi, Rented, ReplayedRefusal
from runner_provisioner.providers.celium.attempts import Attempt, Attempts
from runner_provisioner.providers.celium.failures import RENT, SERVICE, UNKNOWN_OUTCOME, KeyReused
from runner_provisioner.providers.celium.requests import TEMPLATE_NAME, Order, named, nobodys_key, order_of, public_keys
from runner_provisioner.providers.celium.states import PROVIDER, is_over
from runner_provisioner.providers.celium.templates import Templates

_REPEATS = 8  # keys of earlier outcomes that are passed over
_HINT = re.compile(r"[:;] (?:check the network|try again|wait and try)")

log = get_logger(__name__)
T = TypeVar("T")


class Renting:
    """Rents pods, each create once."""

    def __init__(self, api: CeliumApi, templates: Templates, *, clock: Clock) -> None:
        self._api = api
        self._templates = templates
        self._clock = clock
        self._attempts = Attempts()

    async def rent(self, spec: PodSpec, offer: Offer) -> Rented:
        """Rent it; raises as the port's create does."""
        order = order_of(spec, count=offer.gpu_count, now=self._clock.now())
        create = self._attempts.of(spec, offer)
        template: str | None = None
        for _ in range(_REPEATS):
            attempt = self._attempts.current(create)
            await self._prepare(attempt, order, spec, template)
            found = await self._try(attempt, create, spec, offer)
            if found is not None:
                return found
            template = attempt.template_id
        raise _unknown(spec.name, "its requests were all answered before")

    async def _try(self, attempt: Attempt, create: str, spec: PodSpec, offer: Offer) -> Rented | None:
        """One request; None when its key tells of something that is over, so that another one is to be taken."""
        assert attempt.body is not None  # noqa: S101 - prepared
        try:
            found = await _rented(self._api.rent(offer.id, attempt.body, key=attempt.key), spec.name)
        except CreateOutcomeUnknown as error:
            if error.code == UNKNOWN_OUTCOME:
                self._attempts.settled(create)
            raise
        except ReplayedRefusal as error:
            log.info("rent_refused_before", provider=PROVIDER, pod=spec.name, reason=str(error))
            self._attempts.settled(create)
            return None
        except KeyReused as error:
            self._attempts.settled(create)
            await self._check_absent(spec, error)
            return None
        except (RemoteError, InvalidRequest) as error:
            await self._refused(attempt, create, error)
            raise
        self._attempts.settled(create)
        if found.replayed and await self._is_over(found.pod_id):
            return None
        return found

    async def _prepare(self, attempt: Attempt, order: Order, spec: PodSpec, template: str | None) -> None:
        """Make what the request needs, once: a repeat has to say exactly the same."""
        if attempt.body is not None:
            return
        keys = order.keys or await _rented(self._account_keys(spec), spec.name)
        template_id = order.template_id
        if order.template is not None:
            name = f"{TEMPLATE_NAME}{attempt.key}"
            contents = {**order.template, **named(name)}
            template_id = template or await _rented(self._templates.once(name, contents), spec.name)
            attempt.template_id = template_id
        attempt.body = {**order.rent, "user_public_key": list(keys)}
        if template_id is not None:
            attempt.body["template_id"] = template_id

    async def _account_keys(self, spec: PodSpec) -> tuple[str, ...]:
        found: list[str] = []
        for line in await self._api.ssh_keys() if spec.start_ssh else ():
            try:
                found += public_keys([line])
            except InvalidRequest:
                log.warning("celium_account_key_unreadable")
        return tuple(dict.fromkeys(found)) or (nobodys_key(spec.name),)

    async def _refused(self, attempt: Attempt, create: str, error: RunnerProvisionerError) -> None:
        """Leave nothing behind of a rent that was surely refused; one that never arrived is repeated as it is."""
        if isinstance(error, TransientError):
            return
        self._attempts.settled(create)
        if attempt.template_id is not None:
            await self._templates.discard(attempt.template_id)

    async def _is_over(self, pod_id: str) -> bool:
        try:
            pod = await self._api.pod(pod_id)
        except RemoteError as error:
            log.warning("pod_not_seen_yet", pod_id=pod_id, reason=str(error))
            return False  # who finds it over later knows what to do
        return pod is None or is_over(pod.status)

    async def _check_absent(self, spec: PodSpec, error: KeyReused) -> None:
        """Raise CreateOutcomeUnknown when a pod of that name is there: it may be that of the same create."""
        pods = await _rented(self._api.pods(), spec.name)
        if any(pod.pod_name == spec.name and not is_over(pod.status) for pod in pods):
            raise _unknown(spec.name, str(error)) from error


async def _rented(call: Awaitable[T], name: str) -> T:
    """What the call gives; raises CreateOutcomeUnknown where a pod may exist although the call failed."""
    try:
        return await call
    except Unreachable as error:
        if not error.arrived:
            raise
        _unknown_after(name, error)
    except (ServiceUnavailable, ProtocolViolation, NotFound) as error:
        _unknown_after(name, error)
    except ProviderError as error:
        if type(error) is ProviderError:  # a refusal that no row of the table knows
            _unknown_after(name, error)
        raise


def _unknown_after(name: str, cause: RemoteError) -> NoReturn:
    raise _unknown(name, _HINT.split(str(cause))[0], request_id=cause.request_id, code=cause.code) from cause


def _unknown(name: str, why: str, *, request_id: str | None = None, code: str | None = None) -> CreateOutcomeUnknown:
    message = f"Lium may or may not have rented '{name}' ({why}): look it up by name before renting again"
    return CreateOutcomeUnknown(message, service=SERVICE, operation=RENT, request_id=request_id, code=code)
