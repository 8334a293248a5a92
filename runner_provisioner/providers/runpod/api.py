"""RunPod's verbs on the wire of GraphQL, with variables and operation names; REST v2 is in `rest_api`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

from runner_provisioner._http import Answer, HttpSession, Pace, Plumbing, Retry
from runner_provisioner.errors import NotFound, RemoteError, RunnerProvisionerError
from runner_provisioner.logging import Redactor
from runner_provisioner.providers.runpod import documents
from runner_provisioner.providers.runpod.creating import created
from runner_provisioner.providers.runpod.failures import SERVICE, Reader, read
from runner_provisioner.providers.runpod.inputs import (
    BidResumeInput,
    Input,
    OnDemandInput,
    PriceInput,
    RentInput,
    ResumeInput,
    StopInput,
)
from runner_provisioner.providers.runpod.reading import data_of, holds, loggable, malformed, one
from runner_provisioner.providers.runpod.rest_api import RestApi
from runner_provisioner.providers.runpod.wire import WireGpuType, WirePod, WireUser, WireVolume, parse, parse_all

DEFAULT_URL = "https://api.runpod.io/graphql"
BATCH = 50  # pods read in one request

Check = Callable[[Answer], RunnerProvisionerError | None]


def graphql_url(url: str) -> str:
    """The address of the GraphQL API; a bare host gets the path `/graphql`."""
    parts = urlsplit(url.strip())
    path = parts.path.rstrip("/") or "/graphql"
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def rest_url(url: str) -> str:
    """The address of REST v2 beside a GraphQL address."""
    parts = urlsplit(graphql_url(url))
    return urlunsplit((parts.scheme, parts.netloc, parts.path.removesuffix("/graphql") + "/v2", "", ""))


class RunPodApi:
    """One method for each verb. Every method raises the errors that `failures.TABLE` names.

    Reads and idempotent verbs are tried again on transient errors; the two that rent are sent again only when they
    provably never arrived, and raise CreateOutcomeUnknown when a pod may exist.
    """

    def __init__(
        self, session: HttpSession, *, rest: RestApi, api_key: str, reader: Reader, redactor: Redactor
    ) -> None:
        """Speak GraphQL over `session`; `rest` is REST v2 of the same account."""
        self._session = session
        self.rest = rest
        self.redactor = redactor
        self._reader = reader
        self._headers = {"Authorization": f"Bearer {api_key.strip()}"}
        self.url = session.base_url

    @classmethod
    def connect(
        cls,
        *,
        url: str,
        api_key: str,
        plumbing: Plumbing,
        pace: Pace | None = None,
        rest: str | None = None,
    ) -> Self:
        """Build the session; the key is kept out of every log from here on. `rest` is by default beside `url`.

        Raises InvalidRequest when an address is neither https nor on loopback.
        """
        plumbing.redactor.add(api_key.strip())

        def session(base_url: str, pace: Pace | None) -> HttpSession:
            return HttpSession(service=SERVICE, base_url=base_url, plumbing=plumbing, pace=pace)

        reader = Reader(redact=plumbing.redactor.redact, now=plumbing.clock.now)
        rest_api = RestApi(
            open_session=lambda: session(rest or rest_url(url), pace or Pace()),
            open_ending=lambda: session(rest or rest_url(url), None),
            api_key=api_key,
            reader=reader,
            plumbing=plumbing,
        )
        graphql = session(graphql_url(url), pace or Pace())
        return cls(graphql, rest=rest_api, api_key=api_key, reader=reader, redactor=plumbing.redactor)

    def __repr__(self) -> str:
        return f"RunPodApi({self.url})"

    async def aclose(self) -> None:
        """Give the connections back."""
        await self._session.aclose()
        await self.rest.aclose()

    async def myself(self) -> WireUser:
        """The account; the credential check of the specification."""
        return await self._user("myself", documents.MYSELF)

    async def client_balance(self) -> Decimal:
        """US dollars left on the account; the cheapest check of the credential."""
        user = await self._user("clientBalance", documents.BALANCE)
        if user.client_balance is None:
            raise malformed("clientBalance", "it has no balance")
        return user.client_balance

    async def pub_key(self) -> str:
        """The account's public SSH keys, one a line."""
        return (await self._user("pubKey", documents.PUB_KEY)).pub_key or ""

    async def network_volumes(self) -> tuple[WireVolume, ...]:
        """The account's network volumes and where they lie."""
        return (await self._user("networkVolumes", documents.NETWORK_VOLUMES)).network_volumes or ()

    async def my_pods(self) -> tuple[WirePod, ...]:
        """Every pod of the account; may lag behind."""
        data = await self._query("myPods", documents.MY_PODS)
        user = data.get("myself")
        return parse_all(WirePod, user.get("pods") if isinstance(user, dict) else None, "myPods")

    async def pod(self, pod_id: str) -> WirePod | None:
        """Read one pod with its telemetry; None = it does not exist."""
        try:
            data = await self._query("pod", documents.POD, {"podId": pod_id})
        except NotFound:
            return None
        return one(data, "pod")

    async def pods(self, pod_ids: Sequence[str]) -> dict[str, WirePod | None]:
        """Read several pods in as few requests as possible; None = it does not exist."""
        found: dict[str, WirePod | None] = {}
        for begin in range(0, len(pod_ids), BATCH):
            names = documents.aliases("p", pod_ids[begin : begin + BATCH])
            data = await self._call("pods", documents.several_pods(list(names)), names, check=self._batch_error)
            found |= {pod_id: one(data, "pods", alias=name) for name, pod_id in names.items()}
        return found

    async def gpu_types(self) -> tuple[WireGpuType, ...]:
        """Every GPU model, without prices; answered without a credential too."""
        data = await self._query("gpuTypes", documents.GPU_TYPES)
        return parse_all(WireGpuType, data.get("gpuTypes"), "gpuTypes")

    async def gpu_prices(self, price: PriceInput) -> tuple[WireGpuType, ...]:
        """Every GPU model with its lowest price for the whole `gpu_count`."""
        data = await self._query("gpuPrices", documents.GPU_PRICES, {"price": price.to_wire()})
        return parse_all(WireGpuType, data.get("gpuTypes"), "gpuPrices")

    async def gpu_prices_of(self, gpu_type_ids: Sequence[str], price: PriceInput) -> tuple[WireGpuType, ...]:
        """The lowest prices of some models, in their order; a model that RunPod does not know is left out."""
        names = documents.aliases("g", gpu_type_ids)
        if not names:
            return ()
        variables = {"price": price.to_wire(), **names}
        data = await self._query("gpuPricesOf", documents.several_prices(list(names)), variables)
        answers = [parse_all(WireGpuType, data.get(name), "gpuPricesOf") for name in names]
        return tuple(gpu for answer in answers for gpu in answer)

    async def pod_rent_interruptable(self, pod: RentInput) -> WirePod:
        """Rent an interruptible pod at a bid. SpotDiscontinued is today's usual answer (gpuhunt-249b01c)."""
        return await self._create("podRentInterruptable", documents.RENT, pod)

    async def pod_find_and_deploy_on_demand(self, pod: OnDemandInput) -> WirePod:
        """Rent a pod at its price."""
        return await self._create("podFindAndDeployOnDemand", documents.DEPLOY, pod)

    async def pod_resume(self, resume: ResumeInput) -> WirePod:
        """Start a stopped on-demand pod; CapacityUnavailable when its host is full."""
        return await self._change("podResume", documents.RESUME, resume, retry=Retry.CREATE)

    async def pod_bid_resume(self, resume: BidResumeInput) -> WirePod:
        """Start a stopped interruptible pod at a bid."""
        return await self._change("podBidResume", documents.BID_RESUME, resume, retry=Retry.CREATE)

    async def pod_stop(self, stop: StopInput) -> WirePod:
        """Stop a pod; its volume goes on billing, at twice the price (docs)."""
        return await self._change("podStop", documents.STOP, stop)

    async def pod_terminate(self, pod_id: str) -> None:
        """End a pod for good; the documented answer is null. NotFound when there is none."""
        await self._call(
            "podTerminate", documents.TERMINATE, {"input": {"podId": pod_id}}, check=self._check("podTerminate")
        )

    async def _user(self, operation: str, document: str) -> WireUser:
        data = await self._query(operation, document)
        return parse(WireUser, data.get("myself"), operation)

    async def _create(self, operation: str, document: str, pod: RentInput | OnDemandInput) -> WirePod:
        sent = self._change(operation, document, pod, retry=Retry.CREATE)
        return await created(sent, operation=operation, name=pod.name)

    async def _change(self, verb: str, document: str, given: Input, *, retry: Retry = Retry.IDEMPOTENT) -> WirePod:
        data = await self._call(verb, document, {"input": given.to_wire()}, check=self._check(verb, verb), retry=retry)
        pod = one(data, verb)
        if pod is None:
            raise malformed(verb, "it names no pod")
        return pod

    async def _query(
        self, operation: str, document: str, variables: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        return await self._call(operation, document, variables or {}, check=self._check(operation))

    async def _call(
        self,
        operation: str,
        document: str,
        variables: Mapping[str, object],
        *,
        check: Check,
        retry: Retry = Retry.IDEMPOTENT,
    ) -> dict[str, Any]:
        answer = await self._session.send(
            operation,
            "POST",
            "",
            json={"operationName": operation, "query": document, "variables": variables},
            headers=self._headers,
            retry=retry,
            classify=_transport_view(check),
            variables=loggable(variables),
        )
        _raise(check(answer))
        body = answer.json()
        data = body.get("data") if isinstance(body, dict) else None
        if not isinstance(data, dict):
            raise malformed(operation, "it has no data")
        return data

    def _check(self, operation: str, root: str | None = None) -> Check:
        """Tell the error of an answer; with `root`, an answer that holds that pod is none, whatever else it says."""

        def check(answer: Answer) -> RunnerProvisionerError | None:
            error = self._reader.error(answer, operation)
            # A pod that came with a complaint about one of its fields was rented all the same.
            return None if error and root and holds(answer, root) else error

        return check

    def _batch_error(self, answer: Answer) -> RunnerProvisionerError | None:
        """Unknown pods are no error in a batch: their aliases are null."""
        refusal = read(answer)
        if refusal is None:
            return None
        alone = all(part.row.error is NotFound for part in refusal.parts())
        return None if alone and data_of(answer) is not None else self._reader.error(answer, "pods")


def _transport_view(check: Check) -> Callable[[Answer], RemoteError | None]:
    """The part of a check that the retries need; an InvalidRequest is no failure of the service."""

    def classify(answer: Answer) -> RemoteError | None:
        error = check(answer)
        return error if isinstance(error, RemoteError) else None

    return classify


def _raise(error: RunnerProvisionerError | None) -> None:
    if error is not None:
        raise error
