"""What makes a package a market of this program: an object of this kind, named by an entry point of the group `GROUP`.

The module that holds the object is imported whenever providers are looked for: what is slow to import belongs into
`build`, which is called only for a provider that takes part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner_provisioner._http import Pace, Plumbing
    from runner_provisioner.ports import GpuProvider

GROUP = "runner_provisioner.providers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a provider is built from.

    `credential` is opaque, `source` the name of the place it was found in. `values` holds those of the plug-in's
    addresses and variables that are set; an address is https, or http to loopback, without a trailing slash.
    `cache_dir` may not exist yet; `pace` is how often the user wants a service to be called.
    """

    credential: str = field(repr=False)
    source: str
    cache_dir: Path
    pace: Pace
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderPlugin:
    """A market: `name` is what `--provider` takes and the entry point is called, `title` what people call it.

    `credentials` are the environment variables that may hold the key, the first one that is set wins, also one in
    `.env`; `addresses` are those that say where the service is (the real environment alone), `variables` further ones
    that belong to the key. `build` sends nothing; a provider with an `aclose` is closed with it.
    """

    name: str
    title: str
    credentials: tuple[str, ...]
    build: Callable[[Account, Plumbing], GpuProvider]
    addresses: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()

    @property
    def remedy(self) -> str:
        """Which variables would do, for a message."""
        first, *others = self.credentials
        return f"{first} (or {', '.join(others)})" if others else first
