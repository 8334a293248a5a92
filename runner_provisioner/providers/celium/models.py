"""Which GPU a user means: Lium calls them as NVIDIA does, `NVIDIA GeForce RTX 4090`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import NoReturn

from runner_provisioner.errors import UnknownGpu

_BRANDS = frozenset({"nvidia", "geforce", "amd"})
_NEAREST = 3


def short(name: str) -> str:
    """The model without its makers' names: `RTX 4090`."""
    return " ".join(word for word in name.split() if word.casefold() not in _BRANDS) or name


def find(name: str, known: Iterable[str]) -> str | None:
    """The machine name that this is, whole or short, in any case."""
    by_plain = {_plain(machine): machine for machine in known}
    by_short = {_plain(short(machine)): machine for machine in by_plain.values()}
    return by_plain.get(_plain(name)) or by_short.get(_plain(name)) or by_short.get(_plain(short(name)))


def refuse(names: Sequence[str], known: Iterable[str]) -> NoReturn:
    """Raise UnknownGpu with the nearest names."""
    near = list(dict.fromkeys(one for name in names for one in nearest(name, known)))[:_NEAREST]
    hint = f": did you mean {' or '.join(near)}?" if near else ":"
    raise UnknownGpu(f"Lium has no GPU '{' or '.join(names)}'{hint} 'gpu-types' lists all")


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The three machine names most like it, however little."""
    spelt = {_plain(text): machine for machine in known for text in (machine, short(machine))}
    wanted = _plain(name)
    inside = [machine for text, machine in spelt.items() if wanted and wanted in text]
    alike = [spelt[text] for text in difflib.get_close_matches(wanted, spelt, n=len(spelt) + 1, cutoff=0.0)]
    return list(dict.fromkeys(inside + alike))[:_NEAREST]


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
