"""RunPod's pods from Python, without GitHub: async functions, and a client for code that blocks.

    from runner_provisioner import runpod

    pod = await runpod.create_pod(name="my-pod", image_name="runpod/base:1.0.0", gpu_type_id="NVIDIA RTX A4000")
    await runpod.terminate_pod(pod["id"])

Answers are dictionaries in the API's camelCase: `id`, `name`, `desiredStatus`, `costPerHr` (US dollars per hour),
`runtime` (an empty map while no container runs) and so on. Two keys are ours: `status` says starting, running,
interrupted, stopped or failed, and `terminateAfter` when the pod ends by itself, 24 hours after its creation unless
`lifetime` or `terminate_after` say otherwise. `desiredStatus` is RunPod's wish: it is RUNNING from the creation on, so
wait for `status` to be running. A stopped pod shows STOPPED where RunPod's word is EXITED.

The key is `api_key`, else the first found of RUNPOD_API_KEY, RUNPOD_KEY, `.env`, `~/.runpod/config.toml` and
`~/.cursor/mcp.json`; the address is `api_url`, else RUNPOD_API_URL, else the real one.
"""

from __future__ import annotations

import os
import secrets
import string
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from runner_provisioner.domain.names import MANUAL_LETTERS, Scope
from runner_provisioner.errors import RunnerProvisionerError

if TYPE_CHECKING:
    from types import TracebackType

    from runner_provisioner.providers.runpod.raw import RawPods
    from runner_provisioner.settings import Settings
    from runner_provisioner.sync import Blocking

__all__ = [
    "DAY",
    "RunPodAPIClient",
    "RunPodAPIError",
    "RunPodError",
    "create_pod",
    "get_pod",
    "list_pods",
    "resume_pod",
    "stop_pod",
    "terminate_pod",
]

DAY = timedelta(hours=24)
MANUAL = "manual"  # the owner's name where there is no repository
R = TypeVar("R")
Pod = dict[str, Any]


class RunPodError(RunnerProvisionerError):
    """Something did not work; the text is one line that says what to do. `cause` is the typed error."""

    def __init__(self, message: str, *, cause: RunnerProvisionerError | None = None) -> None:
        """`cause` is one of `runner_provisioner.errors`."""
        super().__init__(message)
        self.cause = cause


class RunPodAPIError(RunPodError):
    """What `RunPodAPIClient` raises."""


async def create_pod(
    *, api_key: str | None = None, api_url: str | None = None, lifetime: timedelta | None = DAY, **fields: object
) -> Pod:
    """Rent a pod, on demand, or at a bid when `bid_per_gpu` (US dollars per GPU and hour) is given.

    `fields` are RunPod's input fields in snake_case or under their own names: name, image_name, gpu_type_id (id or
    displayed name), gpu_count, cloud_type (ALL, SECURE, COMMUNITY), volume_in_gb, container_disk_in_gb,
    volume_mount_path, env (a map, or a list of key and value), docker_args, ports ("22/tcp,8888/http"),
    min_vcpu_count, min_memory_in_gb, start_ssh and all others. `lifetime` None means no end.
    When RunPod's answer is lost, the pod is looked for in the account's list, a second time RUNNER_PROVISIONER_SETTLE
    seconds (30) later, and returned when it exists. Raises RunPodError; its `cause` is CreateOutcomeUnknown when
    neither look found a pod, which may exist all the same: look for its name in `list_pods` before another try.
    """
    async with _open(api_key, api_url) as pods:
        return await pods.create(fields, lifetime=lifetime)


async def get_pod(pod_id: str, *, api_key: str | None = None, api_url: str | None = None) -> Pod:
    """Read one pod. Raises RunPodError, with the cause NotFound when there is none."""
    async with _open(api_key, api_url) as pods:
        return await pods.get(pod_id)


async def list_pods(*, api_key: str | None = None, api_url: str | None = None) -> list[Pod]:
    """All pods of the account, whoever made them. Raises RunPodError."""
    async with _open(api_key, api_url) as pods:
        return list(await pods.list())


async def stop_pod(pod_id: str, *, api_key: str | None = None, api_url: str | None = None) -> Pod:
    """Stop a pod; its volume goes on billing, so terminate what is not needed. Raises RunPodError."""
    async with _open(api_key, api_url) as pods:
        return await pods.stop(pod_id)


async def resume_pod(
    pod_id: str,
    gpu_count: int | None = None,
    bid_per_gpu: float | None = None,
    *,
    api_key: str | None = None,
    api_url: str | None = None,
) -> Pod:
    """Start a stopped pod, an interruptible one with a bid in US dollars per GPU and hour. Raises RunPodError."""
    async with _open(api_key, api_url) as pods:
        return await _resume(pods, pod_id, gpu_count, bid_per_gpu)


async def terminate_pod(pod_id: str, *, api_key: str | None = None, api_url: str | None = None) -> dict[str, Any]:
    """End a pod for good; gone already is success. Raises RunPodError."""
    async with _open(api_key, api_url) as pods:
        return await pods.terminate(pod_id)


class RunPodAPIClient:
    """The same for code that blocks; connections are kept until `close` or the end of the `with` block.

    Every method raises RunPodAPIError.
    """

    def __init__(self, api_key: str | None = None, *, api_url: str | None = None) -> None:
        """Look for the key and the address; nothing is sent yet. Raises RunPodAPIError without a key."""
        from runner_provisioner.sync import Blocking  # noqa: PLC0415 - importing this module stays cheap

        self._blocking: Blocking = Blocking()
        with _as(RunPodAPIError):
            self._pods, aclose = _connect(api_key, api_url)
        self._blocking.at_end(aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return "RunPodAPIClient()"

    def close(self) -> None:
        """Give the connections back."""
        self._blocking.close()

    def create_pod(self, *, lifetime: timedelta | None = DAY, **fields: object) -> Pod:
        """See the function of this name."""
        return self._run(lambda: self._pods.create(fields, lifetime=lifetime))

    def get_pod(self, pod_id: str) -> Pod:
        """See the function of this name."""
        return self._run(lambda: self._pods.get(pod_id))

    def list_pods(self) -> list[Pod]:
        """See the function of this name."""
        return list(self._run(self._pods.list))

    def start_pod(self, pod_id: str, gpu_count: int | None = None, bid_per_gpu: float | None = None) -> Pod:
        """Start a stopped pod; see `resume_pod`."""
        return self._run(lambda: _resume(self._pods, pod_id, gpu_count, bid_per_gpu))

    def stop_pod(self, pod_id: str) -> Pod:
        """See the function of this name."""
        return self._run(lambda: self._pods.stop(pod_id))

    def terminate_pod(self, pod_id: str) -> dict[str, Any]:
        """See the function of this name."""
        return self._run(lambda: self._pods.terminate(pod_id))

    def gpu_types(self, gpu_count: int = 1) -> list[dict[str, Any]]:
        """Every GPU model with its lowest price for that many, in US dollars per hour for all of them."""
        return list(self._run(lambda: self._pods.gpu_types(gpu_count)))

    def _run(self, call: Callable[[], Awaitable[R]]) -> R:
        with _as(RunPodAPIError):
            return self._blocking.call(call)


async def _resume(pods: RawPods, pod_id: str, gpu_count: int | None, bid_per_gpu: float | None) -> Pod:
    bid = None if bid_per_gpu is None else Decimal(str(bid_per_gpu))
    return await pods.resume(pod_id, gpu_count=gpu_count, bid_per_gpu=bid)


@asynccontextmanager
async def _open(api_key: str | None, api_url: str | None) -> AsyncIterator[RawPods]:
    with _as(RunPodError):
        pods, aclose = _connect(api_key, api_url)
        try:
            yield pods
        finally:
            await aclose()


@contextmanager
def _as(kind: type[RunPodError]) -> Iterator[None]:
    try:
        yield
    except RunnerProvisionerError as error:
        raise kind(str(error), cause=error) from error


def _connect(api_key: str | None, api_url: str | None) -> tuple[RawPods, Callable[[], Awaitable[None]]]:
    """Build what one caller needs; the second value closes it. Nothing is sent yet."""
    from importlib.metadata import version  # noqa: PLC0415 - heavy

    from runner_provisioner._http import CallMetrics, Pace, Plumbing, Tempo  # noqa: PLC0415 - heavy
    from runner_provisioner.clock import SystemClock  # noqa: PLC0415 - heavy
    from runner_provisioner.logging import Redactor  # noqa: PLC0415 - heavy
    from runner_provisioner.providers.runpod import Api, RunPodApi, RunPodProvider  # noqa: PLC0415 - heavy
    from runner_provisioner.providers.runpod.raw import RawPods  # noqa: PLC0415 - heavy
    from runner_provisioner.settings import Settings  # noqa: PLC0415 - heavy

    settings = Settings.read(os.environ, home=Path.home(), cwd=Path.cwd())
    clock = SystemClock()
    plumbing = Plumbing(
        clock=clock,
        redactor=Redactor(),
        tempo=Tempo(request_timeout=settings.request_timeout, retry_base=settings.retry_base),
        metrics=CallMetrics(),
        user_agent=f"runner-provisioner/{version('runner-provisioner')}",
        pins=settings.spki_pins,
        proxy=settings.https_proxy.get_secret_value() if settings.https_proxy else None,
        no_proxy=settings.proxy_exceptions,
    )
    api = RunPodApi.connect(
        url=api_url or settings.runpod_api_url,
        api_key=api_key or settings.runpod_key().get_secret_value(),
        plumbing=plumbing,
        pace=Pace(per_second=settings.rate_per_second, per_minute=settings.rate_per_minute),
        rest=None if api_url else settings.runpod_rest_url,
    )
    provider = RunPodProvider(api, clock=clock, cache_dir=settings.cache_dir, prefer=Api(settings.runpod_api))
    pods = RawPods(api, provider, clock=clock, letters=_letters, owner8=_owner8(settings), settle=settings.settle)
    return pods, provider.aclose


def _owner8(settings: Settings) -> str:
    """Whose the pods are: this repository's in Actions, else those of nobody in particular."""
    if settings.repository is None:
        return Scope(server_url=settings.github_server_url, owner="").owner8_of(MANUAL)
    return Scope.parse(settings.repository, server_url=settings.github_server_url).owner8


def _letters() -> str:
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(MANUAL_LETTERS))
