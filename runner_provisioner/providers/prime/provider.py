"""Prime Intellect as a market of machines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from runner_provisioner.domain.markets import LogLine, PastPod
from runner_provisioner.domain.offers import GpuRequest, GpuType, Offer
from runner_provisioner.domain.pods import Pod, PodId, PodSpec, PodState, SshEndpoint
from runner_provisioner.errors import (
    CreateOutcomeUnknown,
    InvalidRequest,
    NotFound,
    OfferGone,
    OfferUnfit,
    PermissionDenied,
    ProtocolViolation,
    RemoteError,
    ServerError,
    ServiceUnavailable,
    TransientError,
    about,
)
from runner_provisioner.logging import get_logger
from runner_provisioner.ports import Clock
from runner_provisioner.providers.prime import gpu_models
from runner_provisioner.providers.prime.api import PrimeApi
from runner_provisioner.providers.prime.failures import NO_SUCH_ROUTE, SERVICE, no_such_pod
from runner_provisioner.providers.prime.inputs import CreateInput
from runner_provisioner.providers.prime.logs import LogReader
from runner_provisioner.providers.prime.offers import find, find_again
from runner_provisioner.providers.prime.requests import create_input
from runner_provisioner.providers.prime.states import PROVIDER, to_pod
from runner_provisioner.providers.prime.wire import WireOffer, WirePast, WirePod, WireStatus

LOGIN_KEY_NAME = "runner-provisioner"
"""How the one key that starts pods is called in the account."""

_LOOKS = 5  # at a pod that is being ended
_PAUSE = 1.0  # seconds between them
_ROUNDING = Decimal("0.0001")  # prices travel as floats

log = get_logger(__name__)


class PrimeProvider:
    """The port over Prime Intellect's API, and the capabilities that it has.

    These are ReadsMany, HasBalance, HasGpuTypes, HasAccountKeys, HasLogs, HasHistory, HasSshEndpoint and StartsOverSsh.
    Prime
    Intellect stops no pods, ends none by itself, keeps templates in its dashboard alone, and returns no environment:
    whose pod it is, its name says. The adapter remembers for its own lifetime what it was offered, which pods it ended,
    and what each was doing last.
    """

    name = PROVIDER

    def __init__(self, api: PrimeApi, *, clock: Clock) -> None:
        self.api = api
        self._clock = clock
        self._offered: dict[str, WireOffer] = {}
        self._rows: dict[str, WirePod] = {}
        self._states: dict[str, PodState] = {}
        self._ended: set[str] = set()

    def __repr__(self) -> str:
        return f"PrimeProvider({self.api.url})"

    async def aclose(self) -> None:
        """Give the connections back."""
        await self.api.aclose()

    # -- the five verbs

    async def offers(self, request: GpuRequest) -> Sequence[Offer]:
        """See the port. Spot offers have a price and no bids: the bid is the ceiling that is sent."""
        found = await find(self.api, request)
        self._offered |= {one.offer.id: one.row for one in found}
        return [one.offer for one in found]

    async def create(self, spec: PodSpec, offer: Offer) -> Pod:
        """See the port. Raises OfferGone when the offer is no longer there, or the pod costs more than it."""
        row = self._offered.get(offer.id) or await find_again(self.api, offer)
        if row is None:
            message = f"Prime Intellect no longer offers {offer}: ask for offers again"
            raise OfferGone(message, service=SERVICE, operation="createPod")
        if spec.ports != ("22/tcp",):
            log.warning("prime_ports_not_asked_for", reason="the upstream provider decides which ports are open")
        if spec.login_key is not None:
            spec = replace(spec, options={"sshKeyId": await self._let_in(spec.login_key), **spec.options})
        body = create_input(spec, offer, row, team=self.api.team_id)
        if body.pod.jupyter_password:
            self.api.plumbing.redactor.keep(body.pod.jupyter_password)
        made = await self._made(body, spec)
        pod = self._pod(made)
        if pod is None:
            message = f"Prime Intellect ended pod {made.id} at once: look '{spec.name}' up before renting again"
            raise CreateOutcomeUnknown(message, service=SERVICE, operation="createPod")
        log.info("pod_rented", provider=PROVIDER, pod_id=pod.id, pod=spec.name)
        if pod.price is not None and pod.price > offer.price + _ROUNDING:
            await self._give_back(pod, offer)
        return pod

    async def _made(self, body: CreateInput, spec: PodSpec) -> WirePod:
        """What came of the create; what the request itself names in vain is an InvalidRequest about that."""
        try:
            return await self.api.create_pod(body)
        except PermissionDenied as error:
            if body.team is None or not {"team", "teamId", "team_id"} & set(spec.options):
                raise
            raise about("team", InvalidRequest(f"team '{body.team.team_id}': {error}")) from error
        except (NotFound, InvalidRequest) as error:
            if body.pod.custom_template_id is not None and "template" in str(error).lower():
                error.about = "template"
            raise

    async def get(self, pod_id: PodId) -> Pod | None:
        """See the port."""
        found = await self._read(pod_id)
        return self._pod(found) if found else None

    async def list(self, owner8: str | None) -> Sequence[Pod]:
        """See the port. By name alone: Prime Intellect returns no environment."""
        pods = [pod for pod in map(self._pod, await self.api.pods()) if pod]
        return pods if owner8 is None else [pod for pod in pods if _is_named(pod.name, owner8)]

    async def terminate(self, pod_id: PodId) -> None:
        """See the port; returns once the pod is gone or shown as going.

        Raises ServerError when Prime Intellect accepts the end and goes on showing the pod as before.
        """
        self._ended.add(pod_id)
        if await self._gone(pod_id, lambda: self.api.delete_pod(pod_id)):
            return
        status = ""
        hurried = self.api.plumbing.tempo.hurried
        for look in range(1 if hurried else _LOOKS):
            if look:
                await self._clock.sleep(_PAUSE)
            left = await self._read(pod_id, ends=True)
            if left is None or self._pod(left) is None:
                return
            status = (left.status or "").upper()
        if status == "DELETING":
            log.info("pod_still_going", pod_id=pod_id)
            return
        if not hurried:
            message = f"Prime Intellect accepted the end of pod {pod_id} and still shows it as {status}: end it again"
            raise ServerError(message, service=SERVICE, operation="deletePod", code="NOT_ENDED")

    # -- capabilities

    async def get_many(self, pod_ids: Sequence[PodId]) -> Mapping[PodId, Pod | None]:
        """See ReadsMany: by their statuses; one that was never read, or that has none, is read by itself."""
        known = [pod_id for pod_id in pod_ids if pod_id in self._rows]
        statuses = await self._statuses(known)
        found: dict[PodId, Pod | None] = {}
        for pod_id in pod_ids:
            told = statuses.get(pod_id)
            found[pod_id] = self._pod(_merged(self._rows[pod_id], told)) if told else await self.get(pod_id)
        return found

    async def _statuses(self, pod_ids: Sequence[PodId]) -> Mapping[str, WireStatus]:
        try:
            return await self.api.statuses(pod_ids)
        except NotFound:
            return {}  # of which of them it is, each by itself tells

    async def balance(self) -> Decimal:
        """See HasBalance."""
        return await self.api.balance()

    async def gpu_types(self) -> Sequence[GpuType]:
        """See HasGpuTypes: those priced now and those that the documentation names, each in whatever cloud."""
        names = {*gpu_models.KNOWN, *await self.api.gpu_types()}
        return [
            GpuType(id=name, name=name, memory_gb=gpu_models.memory_of(name), secure=True, community=True)
            for name in sorted(names)
        ]

    async def ssh_keys(self) -> Sequence[str]:
        """See HasAccountKeys."""
        return [key.public_key.strip() for key in await self.api.ssh_keys() if key.public_key.strip()]

    async def login_key(self, public_key: str, *, name: str) -> str:
        """The id of this public key, which is added to the account when it has it not: for the option `sshKeyId`."""
        wanted = public_key.split()[:2]
        for key in await self.api.ssh_keys():
            if key.public_key.split()[:2] == wanted:
                return key.id
        return (await self.api.add_ssh_key(name, public_key)).id

    async def delete_login_key(self, key_id: str) -> None:
        """Take it from the account; gone already is success."""
        try:
            await self.api.delete_ssh_key(key_id)
        except NotFound:
            log.debug("ssh_key_gone_already", key_id=key_id)

    async def ssh_endpoint(self, pod_id: PodId) -> SshEndpoint | None:
        """See HasSshEndpoint. Raises ProtocolViolation when what Prime Intellect tells is no address."""
        found = await self._read(pod_id)
        if found is None or self._pod(found) is None:
            raise no_such_pod(pod_id, "getPod")
        return found.endpoint()

    def logs(self, pod_id: PodId, *, tail: int | None = None, follow: bool = False) -> AsyncIterator[LogLine]:
        """See HasLogs; no times are told."""

        async def ended() -> bool:
            try:
                pod = await self.get(pod_id)
            except TransientError:
                return False  # the next look tells
            return pod is None or not pod.alive

        redact = self.api.plumbing.redactor.redact
        reader = LogReader(lambda: self.api.pod_log(pod_id), clock=self._clock, redact=redact, ended=ended)
        return reader.lines(tail=tail, follow=follow)

    async def history(self, *, limit: int = 100) -> Sequence[PastPod]:
        """See HasHistory; with what each was billed."""
        return [_past(row) for row in await self.api.history(limit=limit)]

    @property
    def starts_over_ssh(self) -> bool:
        """See StartsOverSsh: the API has no start command."""
        return True

    # -- what the verbs share

    async def _let_in(self, public_key: str) -> str:
        """The id of this key in the account; what fails on the way has rented nothing."""
        try:
            return await self.login_key(public_key, name=LOGIN_KEY_NAME)
        except (ServiceUnavailable, ProtocolViolation) as error:
            raise OfferUnfit(f"its pods could not be started, for the account takes no key: {error}") from error

    async def _read(self, pod_id: str, *, ends: bool = False) -> WirePod | None:
        found: list[WirePod] = []

        async def read() -> None:
            found.append(await self.api.pod(pod_id, ends=ends))

        return None if await self._gone(pod_id, read) else found[0]

    async def _gone(self, pod_id: str, call: Callable[[], Awaitable[None]]) -> bool:
        """Do it; True when the pod does not exist.

        A 404 without a word of the pod may come from a wrong address: it counts when the list answers without it.
        """
        try:
            await call()
        except NotFound:
            self._forget(pod_id)
            return True
        except ProtocolViolation as error:
            if error.code != NO_SUCH_ROUTE or any(pod.id == pod_id for pod in await self.api.pods()):
                raise
            self._forget(pod_id)
            return True
        return False

    def _forget(self, pod_id: str) -> None:
        self._rows.pop(pod_id, None)
        self._states.pop(pod_id, None)

    async def _give_back(self, pod: Pod, offer: Offer) -> None:
        message = f"Prime Intellect asks {pod.price} USD/h for {offer.gpu_model}, offered at {offer.price}"
        try:
            await self.terminate(pod.id)
        except RemoteError as error:
            log.warning("pod_not_given_back", pod_id=pod.id, reason=str(error))
            # Who looks it up by its name finds its price above the cap, and ends it.
            unknown = f"{message}, and pod {pod.id} could not be ended: look '{pod.name}' up before renting again"
            raise CreateOutcomeUnknown(unknown, service=SERVICE, operation="createPod") from error
        raise OfferGone(f"{message}: it was given back", service=SERVICE, operation="createPod")

    def _pod(self, row: WirePod) -> Pod | None:
        pod = to_pod(row, asked=row.id in self._ended, last=self._states.get(row.id))
        if pod is None:
            self._forget(row.id)
            return None
        self._rows[row.id] = row
        self._states[row.id] = pod.state
        return pod


def _is_named(name: str, owner8: str) -> bool:
    return name.startswith((f"rp-{owner8}-", f"rpm-{owner8}-"))


def _merged(row: WirePod, told: WireStatus) -> WirePod:
    """The pod as it was read before, as far as it is by now: the short form leaves out the installation's word."""
    return row.model_copy(
        update={
            "status": told.status,
            "installation_status": told.installation_status,
            "installation_failure": told.installation_failure,
            "installation_progress": told.installation_progress,
            "ssh_connection": told.ssh_connection,
            "ip": told.ip,
            "prime_port_mapping": told.prime_port_mapping,
            "price_hr": told.price_hr or told.cost_per_hr or row.price_hr,
        }
    )


def _past(row: WirePast) -> PastPod:
    return PastPod(
        provider=PROVIDER,
        id=PodId(row.id),
        name=row.name or "",
        gpu_model=row.gpu_name,
        gpu_count=row.gpu_count,
        price=row.price_hr,
        cost=row.total_billed_price,
        created_at=row.created_at,
        ended_at=row.terminated_at,
    )
