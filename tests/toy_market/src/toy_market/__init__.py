"""A market that exists in tests alone: the smallest package that is a provider of runner_provisioner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner_provisioner.providers.plugin import Account, ProviderPlugin

if TYPE_CHECKING:
    from runner_provisioner.ports import GpuProvider
    from runner_provisioner.providers.http import Plumbing


def _build(account: Account, plumbing: Plumbing) -> GpuProvider:
    from toy_market.adapter import ToyProvider  # noqa: PLC0415 - what is slow to import is imported here

    url = account.values.get("TOY_URL", "https://toy.example")
    return ToyProvider(url=url, key=account.credential, plumbing=plumbing, pace=account.pace)


PLUGIN = ProviderPlugin(
    name="toy", title="Toy Market", credentials=("TOY_API_KEY",), addresses=("TOY_URL",), build=_build
)
