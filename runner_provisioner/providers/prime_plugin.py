"""Prime Intellect as a plug-in; its adapter is imported once it is built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner_provisioner.providers.plugin import Account, ProviderPlugin

if TYPE_CHECKING:
    from runner_provisioner._http import Plumbing
    from runner_provisioner.ports import GpuProvider


def _build(account: Account, plumbing: Plumbing) -> GpuProvider:
    from runner_provisioner.providers.prime.api import DEFAULT_URL, PrimeApi  # noqa: PLC0415 - heavy
    from runner_provisioner.providers.prime.provider import PrimeProvider  # noqa: PLC0415 - heavy

    api = PrimeApi.connect(
        api_key=account.credential,
        plumbing=plumbing,
        url=account.values.get("PRIME_API_BASE_URL", DEFAULT_URL),
        team_id=account.values.get("PRIME_TEAM_ID"),
    )
    return PrimeProvider(api, clock=plumbing.clock)


PLUGIN = ProviderPlugin(
    name="prime",
    title="Prime Intellect",
    credentials=("PRIME_API_KEY",),
    addresses=("PRIME_API_BASE_URL",),
    variables=("PRIME_TEAM_ID",),
    build=_build,
)
