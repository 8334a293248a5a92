"""Runs GitHub Actions jobs on rented GPUs.

The library face is `runner_provisioner.runpod`; errors are in `runner_provisioner.errors`. Both are imported when they
are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner_provisioner import errors, runpod

    __version__: str

__all__ = ["__version__", "errors", "runpod"]

_MODULES = frozenset({"errors", "runpod"})


def __getattr__(name: str) -> object:
    """Import on first use (PEP 562), so that importing the package costs nothing."""
    if name in _MODULES:
        from importlib import import_module  # noqa: PLC0415 - see above

        return import_module(f"{__name__}.{name}")
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - it reads the disk

        return version("runner-provisioner")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
