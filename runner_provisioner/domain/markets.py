"""What a market tells beside what a pod is doing: its output, pods of the past, templates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from runner_provisioner.domain.pods import PodId, PodTags


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line of a pod's output, without its line end.

    `at` is None where the provider does not say when; `source` is the provider's own word for where the line comes
    from ("container", "system"), "" where it has none.
    """

    text: str
    at: datetime | None = None
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastPod:
    """A pod that has ended, as its provider remembers it.

    `price` is US dollars per hour for the whole pod, `cost` what was billed for it in US dollars; `reason` is the
    provider's own word for why it ended. What the provider does not tell is None, or "".
    """

    provider: str
    id: PodId
    name: str = ""
    gpu_model: str | None = None
    gpu_count: int | None = None
    price: Decimal | None = None
    cost: Decimal | None = None
    created_at: datetime | None = None
    ended_at: datetime | None = None
    interruptible: bool | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateSpec:
    """What a new template holds. `command` is a bash command line as in `PodSpec`; sizes are in GB.

    `once` asks for one that goes with its pod, where the provider has such.
    """

    name: str
    image: str
    command: str | None = field(default=None, repr=False)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    ports: tuple[str, ...] = ("22/tcp",)
    disk_gb: int = 40
    once: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PodTemplate:
    """A template of the account; `status` is the provider's own word, `usable` whether a pod can be made of it now.

    `spec` is all that it holds, so that another provider can make a pod of the same; None where it holds more, or where
    the provider does not tell.
    """

    provider: str
    id: str
    name: str
    image: str | None = None
    status: str = ""
    usable: bool = True
    spec: TemplateSpec | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftTemplate:
    """A template that was made for one pod, and that no pod runs from: it may hold what the pod was to be told."""

    provider: str
    id: str
    name: str
    tags: PodTags
