"""GPU models by whatever name a market has for them.

One writes `A4000_16GB` or `H100_80GB` where another has "NVIDIA RTX A4000" and "NVIDIA H100 80GB HBM3".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from runner_provisioner.domain.offers import GpuType

_PARTS = re.compile(r"[A-Za-z0-9]+")
_MEMORY = re.compile(r"(\d+)gb")
_SOCKET = re.compile(r"pcie|sxm\d?|oam")
_ON_SXM = frozenset({"hbm3", "hbm3e"})  # how the driver names the modules of H100 and newer
_SXM_ALONE = frozenset({"b200", "b300", "gh200", "gb200", "h200"})
_SXM = {
    "p100": ("SXM2",),
    "v100": ("SXM2", "SXM3"),
    "a100": ("SXM4",),
    "h100": ("SXM5",),
    "h200": ("SXM5",),
    "b200": ("SXM6",),
    "b300": ("SXM6",),
}
"""Which generations of the module socket a model was made for."""
_EMPTY = frozenset({"nvidia", "amd", "geforce", "tesla", "quadro", "instinct", "rtx", "generation", "edition", "server",
                    "workstation", "blackwell", "gb"})  # fmt: skip
_SYNONYMS = {"pro6000": "pro6000b"}


@dataclass(frozen=True, slots=True)
class GpuName:
    """A model taken apart: `a100`, 80 GB, on SXM; None where the name does not say."""

    model: str
    memory_gb: int | None = None
    socket: str | None = None

    @classmethod
    def read(cls, text: str) -> Self:
        """Take any market's name apart."""
        words = [word.lower() for word in _PARTS.findall(text)]
        kept: list[str] = []
        memory: int | None = None
        socket: str | None = None
        for word in words:
            if found := _MEMORY.fullmatch(word):
                memory = int(found[1])
            elif _SOCKET.fullmatch(word):
                socket = word[:3]
            elif word in _ON_SXM:
                socket = socket or "sxm"
            elif word not in _EMPTY:
                kept.append(word.removeprefix("rtx"))
        model = "".join(kept)
        return cls(_SYNONYMS.get(model, model), memory, socket)

    def fits(self, gpu_type: str, socket: str | None = None) -> bool:
        """Whether a type of that name, on this socket where that is known, is such a GPU."""
        other = GpuName.read(gpu_type)
        if not self.model or self.model != other.model:
            return False
        same = self.memory_gb is None or other.memory_gb is None or self.memory_gb == other.memory_gb
        return same and (self.socket is None or socket is None or socket.lower().startswith(self.socket))


def sockets_of(model: str) -> tuple[str, ...]:
    """The sockets that a GPU of that name may sit on: PCIe, SXM5; one whose name tells none is a PCIe card."""
    name = GpuName.read(model)
    said = next((word for word in map(str.upper, _PARTS.findall(model)) if _SOCKET.fullmatch(word.lower())), None)
    if said is None:
        said = "SXM" if name.socket is not None or name.model in _SXM_ALONE else "PCIE"
    if said == "PCIE":
        return ("PCIe",)
    return _SXM.get(name.model, (said,)) if said == "SXM" else (said,)


def on_socket(model: str, socket: str) -> bool:
    """Whether a GPU of that name sits on the socket ("PCIe", "SXM5"); "SXM" is one of any generation."""
    wanted = socket.casefold()
    return any(wanted in {one.casefold(), one.casefold().rstrip("0123456789")} for one in sockets_of(model))


def same_models(name: str, types: Iterable[GpuType]) -> list[str]:
    """The ids of the types that the name means: those of that very name, else those that are such a GPU."""
    known = list(types)
    exact = [one.id for one in known if name.casefold() in {one.id.casefold(), one.name.casefold()}]
    if exact:
        return exact
    wanted = GpuName.read(name)
    return [one.id for one in known if _is_such(wanted, one)]


def _is_such(wanted: GpuName, known: GpuType) -> bool:
    named = GpuName.read(known.id)
    if not wanted.fits(known.id, named.socket):
        return False
    return wanted.memory_gb is None or not known.memory_gb or wanted.memory_gb == known.memory_gb
