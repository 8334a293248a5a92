"""What providers tell and keep beside pods: logs, pods of the past, templates, SSH keys. Not each can do each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from runner_provisioner.domain.markets import LogLine, PastPod, PodTemplate, TemplateSpec
from runner_provisioner.domain.pods import PodId
from runner_provisioner.errors import InvalidRequest, RunnerProvisionerError
from runner_provisioner.ports import GpuProvider, HasAccountKeys, HasHistory, HasLogs, HasTemplates
from runner_provisioner.services.asking import ask_all
from runner_provisioner.services.manual import ManualPods

T = TypeVar("T")
C = TypeVar("C")
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What several providers have told: those that `cannot` at all, and the `errors` of those that failed."""

    cannot: tuple[str, ...] = ()
    errors: Mapping[str, RunnerProvisionerError]


@dataclass(frozen=True, slots=True, kw_only=True)
class Past(Told):
    """Pods of the past, the latest end first."""

    pods: tuple[PastPod, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Templates(Told):
    """Templates, by provider."""

    templates: tuple[PodTemplate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys(Told):
    """Public SSH keys, by provider."""

    keys: Mapping[str, Sequence[str]]


class Markets:
    """The use cases; InvalidRequest where no provider that was named can."""

    def __init__(self, providers: Mapping[str, GpuProvider], pods: ManualPods) -> None:
        """`pods` finds whose pod one is."""
        self._providers = providers
        self._pods = pods

    async def logs(self, pod_id: PodId, *, tail: int | None = None, follow: bool = False) -> AsyncIterator[LogLine]:
        """The output of a pod's container as its provider has it; to be closed when it is given up."""
        pod = await self._pods.get(pod_id)
        provider: object = self._providers[pod.provider]
        if not isinstance(provider, HasLogs):
            raise InvalidRequest(f"{pod.provider} gives no logs: 'logs' reads those of a runner's pod by SSH")
        return provider.logs(pod_id, tail=tail, follow=follow)

    async def history(self, *, limit: int) -> Past:
        """The last pods that have ended, over all providers that remember them."""
        able = self._able(HasHistory, "remembers pods that have ended")  # type: ignore[type-abstract] # a protocol
        cannot, answers, errors = await self._ask(able, lambda one: partial(one.history, limit=limit))
        pods = sorted(
            (pod for found in answers.values() for pod in found),
            key=lambda pod: pod.ended_at or _LONG_AGO,
            reverse=True,
        )
        return Past(pods=tuple(pods[:limit]), cannot=cannot, errors=errors)

    async def templates(self) -> Templates:
        """Those of every account that keeps some."""
        able = self._able(HasTemplates, "keeps templates")  # type: ignore[type-abstract] # a protocol
        cannot, answers, errors = await self._ask(able, lambda one: one.templates)
        found = tuple(one for templates in answers.values() for one in templates)
        return Templates(templates=found, cannot=cannot, errors=errors)

    async def create_template(self, spec: TemplateSpec) -> PodTemplate:
        """Make one, and wait until a pod can be made of it."""
        return await self._keeper().create_template(spec)

    async def delete_template(self, template_id: str) -> None:
        """Remove one; gone already is success."""
        await self._keeper().delete_template(template_id)

    async def ssh_keys(self) -> Keys:
        """Those of every account that keeps some."""
        able = self._able(HasAccountKeys, "keeps SSH keys")  # type: ignore[type-abstract] # a protocol
        cannot, answers, errors = await self._ask(able, lambda one: one.ssh_keys)
        return Keys(keys=answers, cannot=cannot, errors=errors)

    def _able(self, kind: type[C], what: str) -> Mapping[str, C]:
        found: dict[str, C] = {name: one for name, one in self._providers.items() if isinstance(one, kind)}
        if not found:
            who = " and ".join(self._providers)
            raise InvalidRequest(f"{who}: no provider of these {what}: name another with --provider")
        return found

    def _keeper(self) -> HasTemplates:
        able = self._able(HasTemplates, "keeps templates")  # type: ignore[type-abstract] # a protocol
        if len(able) > 1:
            raise InvalidRequest(f"which provider? {' and '.join(able)} keep templates: say one with --provider")
        return next(iter(able.values()))

    async def _ask(
        self, able: Mapping[str, C], question: Callable[[C], Callable[[], Awaitable[T]]]
    ) -> tuple[tuple[str, ...], Mapping[str, T], Mapping[str, RunnerProvisionerError]]:
        replies = await ask_all({name: question(one) for name, one in able.items()})
        return tuple(name for name in self._providers if name not in able), replies.answers, replies.errors
