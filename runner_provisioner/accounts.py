"""Which markets take part, the plug-ins whose credential is there, and GitHub by the credential that is there."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from runner_provisioner._http import Pace
from runner_provisioner.domain.names import Scope
from runner_provisioner.errors import (
    ConfigurationError,
    MissingCredential,
    RunnerProvisionerError,
    UnknownProvider,
)
from runner_provisioner.github.connect import AppCredential, TokenCredential, connect
from runner_provisioner.providers.plugin import GROUP, Account, ProviderPlugin

if TYPE_CHECKING:
    from runner_provisioner._http import Plumbing
    from runner_provisioner.github.connect import GitHub
    from runner_provisioner.ports import GpuProvider
    from runner_provisioner.settings import Settings

FIRST = "runpod"
_OWN_PACKAGE = "runner-provisioner"


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """A plug-in whose credential is there, and what its provider is built from."""

    plugin: ProviderPlugin
    account: Account


def names() -> list[str]:
    """Every provider that is installed, in the order in which they are asked; nothing is imported."""
    return sorted(_installed(), key=lambda name: (name != FIRST, name))


def plugins(chosen: Sequence[str] = ()) -> list[ProviderPlugin]:
    """The plug-ins of these names, or all. Raises UnknownProvider, and ConfigurationError for a broken plug-in."""
    installed = _installed()
    for name in chosen:
        if name not in installed:
            raise UnknownProvider(no_such(name, names()))
    return [_load(installed[name]) for name in names() if not chosen or name in chosen]


def markets(settings: Settings, chosen: Sequence[str] = ()) -> list[Market]:
    """Those that take part: of the chosen ones all, else every one whose credential is there.

    Raises MissingCredential, which names all variables that would do, UnknownProvider and ConfigurationError.
    """
    wanted = plugins(chosen)
    found = [(plugin, settings.credential(plugin.credentials)) for plugin in wanted]
    missing = [plugin for plugin, credential in found if credential is None]
    if missing and (chosen or len(missing) == len(found)):
        raise MissingCredential(_missing(missing, settings))
    return [
        Market(plugin=plugin, account=_account(plugin, settings))
        for plugin, credential in found
        if credential is not None
    ]


def build(market: Market, plumbing: Plumbing) -> GpuProvider:
    """The provider of a market. Raises ConfigurationError, also for a plug-in that fails in a way of its own."""
    try:
        return market.plugin.build(market.account, plumbing)
    except RunnerProvisionerError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"the provider '{market.plugin.name}' cannot be set up ({type(error).__name__}): check "
            f"{market.account.source}, update or uninstall its package"
        ) from error


def secret_of(settings: Settings, provider: str | None = None) -> str:
    """The credential that keys of the installation's own are derived from: RunPod's where it is there.

    It does not depend on the providers that a command is narrowed to, unless `provider` asks for that one's. Raises
    MissingCredential.
    """
    return markets(settings, (provider,) if provider else ())[0].account.credential


def github(
    settings: Settings, plumbing: Plumbing, scope: Scope, *, repository: str | None, runner_group: str | None = None
) -> GitHub:
    """GitHub as it registers runners in this scope. Raises MissingCredential."""
    from runner_provisioner.settings import GitHubApp  # noqa: PLC0415 - pydantic-settings is slow to import

    found = settings.github_credential()
    credential: AppCredential | TokenCredential
    if isinstance(found, GitHubApp):
        credential = AppCredential(
            app_id=found.issuer,
            private_key=found.private_key.get_secret_value(),
            installation_id=found.installation_id,
        )
    else:
        credential = TokenCredential(token=found.token.get_secret_value(), origin=found.source)
    return connect(
        scope,
        credential,
        plumbing=plumbing,
        api_url=settings.github_api_url,
        runner_group=runner_group,
        repository=repository,
        cache_dir=settings.cache_dir,
    )


def workflow_github(settings: Settings, plumbing: Plumbing, repository: str | None) -> GitHub | None:
    """GitHub by the token that a workflow gets by itself: it may order re-runs, and cannot register runners."""
    if settings.workflow_token is None or repository is None:
        return None
    scope = Scope.parse(repository, server_url=settings.github_server_url)
    credential = TokenCredential(
        token=settings.workflow_token.get_secret_value(), origin="RUNNER_PROVISIONER_WORKFLOW_TOKEN"
    )
    return connect(scope, credential, plumbing=plumbing, api_url=settings.github_api_url)


def _installed() -> Mapping[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for one in _points(tuple(sys.path)):
        other = found.get(one.name)
        if other is not None and other.value != one.value:
            raise ConfigurationError(
                f"two packages are the provider '{one.name}' ({_package(other)} and {_package(one)}): uninstall one"
            )
        found[one.name] = one
    return found


@cache
def _points(_path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    # The metadata of every package on the path is read for it, which takes 20 ms.
    return tuple(entry_points(group=GROUP))


def _load(point: EntryPoint) -> ProviderPlugin:
    where = f"the provider '{point.name}' ({_package(point)})"
    try:
        plugin = point.load()
    except (Exception, SystemExit) as error:  # whoever wrote it: no module may end the program
        raise ConfigurationError(
            f"{where} cannot be loaded ({type(error).__name__}): update or uninstall the package"
        ) from error
    if not isinstance(plugin, ProviderPlugin) or plugin.name != point.name:
        raise ConfigurationError(f"{where} names no ProviderPlugin of that name: update or uninstall the package")
    return plugin


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.module


def _account(plugin: ProviderPlugin, settings: Settings) -> Account:
    values = {name: settings.address(name) for name in plugin.addresses}
    values |= {name: settings.variable(name) for name in plugin.variables}
    credential = settings.held(plugin.credentials)
    return Account(
        credential=credential.value.get_secret_value(),
        source=credential.source,
        cache_dir=settings.cache_dir,
        pace=Pace(per_second=settings.rate_per_second, per_minute=settings.rate_per_minute),
        values={name: value for name, value in values.items() if value},
    )


def _missing(plugins: Sequence[ProviderPlugin], settings: Settings) -> str:
    notes = f" ({'; '.join(settings.notes)})" if settings.notes else ""
    if len(plugins) == 1:
        return f"no {plugins[0].title} key found: set {plugins[0].remedy}{_looked_at(plugins)}{notes}"
    ways = "; ".join(f"{plugin.remedy} for {plugin.title}" for plugin in plugins)
    return f"no provider's key found: set one of {ways}{_looked_at(plugins)}{notes}"


def _looked_at(plugins: Sequence[ProviderPlugin]) -> str:
    own = ", ~/.runpod/config.toml, ~/.cursor/mcp.json" if any(one.name == FIRST for one in plugins) else ""
    return f" (looked at the environment, .env{own})"


def no_such(name: str, known: Sequence[str]) -> str:
    """What to say of a name that is none of the known ones."""
    if not known:
        return f"no provider '{name}': none is installed, install {_OWN_PACKAGE} again"
    near = difflib.get_close_matches(name.casefold(), known, n=3)
    meant = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
    return f"no provider '{name}': {meant}"
