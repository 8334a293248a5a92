"""RunPod as a plug-in; its adapter is imported once it is built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner_provisioner.providers.plugin import Account, ProviderPlugin

if TYPE_CHECKING:
    from runner_provisioner._http import Plumbing
    from runner_provisioner.ports import GpuProvider


def _build(account: Account, plumbing: Plumbing) -> GpuProvider:
    from runner_provisioner.providers.runpod import DEFAULT_URL, Api, RunPodApi, RunPodProvider  # noqa: PLC0415 - heavy

    api = RunPodApi.connect(
        url=account.values.get("RUNPOD_API_URL", DEFAULT_URL),
        api_key=account.credential,
        plumbing=plumbing,
        pace=account.pace,
        rest=account.values.get("RUNPOD_REST_URL"),
    )
    prefer = Api(account.values.get("RUNPOD_API", Api.GRAPHQL))
    return RunPodProvider(api, clock=plumbing.clock, cache_dir=account.cache_dir, prefer=prefer)


PLUGIN = ProviderPlugin(
    name="runpod",
    title="RunPod",
    credentials=("RUNPOD_API_KEY", "RUNPOD_KEY"),
    addresses=("RUNPOD_API_URL", "RUNPOD_REST_URL"),
    variables=("RUNPOD_API",),
    build=_build,
)
