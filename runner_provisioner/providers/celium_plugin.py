"""Lium (formerly Celium) as a plug-in; its adapter is imported once it is built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner_provisioner.providers.plugin import Account, ProviderPlugin

if TYPE_CHECKING:
    from runner_provisioner._http import Plumbing
    from runner_provisioner.ports import GpuProvider


def _build(account: Account, plumbing: Plumbing) -> GpuProvider:
    from runner_provisioner.providers.celium.addresses import DEFAULT_URL  # noqa: PLC0415 - heavy
    from runner_provisioner.providers.celium.api import CeliumApi  # noqa: PLC0415 - heavy
    from runner_provisioner.providers.celium.provider import CeliumProvider  # noqa: PLC0415 - heavy

    url = account.values.get("LIUM_BASE_URL", DEFAULT_URL)
    return CeliumProvider(
        CeliumApi.connect(url=url, api_key=account.credential, plumbing=plumbing), clock=plumbing.clock
    )


PLUGIN = ProviderPlugin(
    name="celium",
    title="Lium (formerly Celium)",
    credentials=("CELIUM_API_KEY", "LIUM_API_KEY"),
    addresses=("LIUM_BASE_URL",),
    build=_build,
)
