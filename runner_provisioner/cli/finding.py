"""Which pod is meant: its id, the label of its runner, or the run and key it was started for."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runner_provisioner.cli.session import Session, place_of, place_options, run_part
from runner_provisioner.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from runner_provisioner.domain.pods import Pod
    from runner_provisioner.services.manual import ManualPods
    from runner_provisioner.wiring import Place, Program

F = TypeVar("F", bound=Callable[..., Any])
_TAIL = "runner_provisioner.after_dashes"


@dataclass(frozen=True, kw_only=True)
class Selector:
    """The options that name a pod, as they were given; `pod_id` wins over nothing: only one way may be used."""

    pod_id: str | None = None
    label: str | None = None
    run_id: str | None = None
    key: str = "default"
    repository: str | None = None
    organization: str | None = None
    owner: str | None = None

    @property
    def by_option(self) -> bool:
        """Whether an option says which pod, so that no argument has to."""
        return self.label is not None or self.run_id is not None

    def with_id(self, pod_id: str | None) -> Selector:
        """The same with an argument; raises InvalidRequest when an option names a pod too."""
        if pod_id is not None and self.by_option:
            raise InvalidRequest(f"which pod? give its id ({pod_id}), or --label, or --run-id, and only one of them")
        return Selector(**{**vars(self), "pod_id": pod_id})

    def place(self, session: Session) -> Place:
        """Where its runner is registered. Raises InvalidRequest when nothing names a place."""
        return place_of(session, self.repository, self.organization, self.owner)


def pod_options(command: F) -> F:
    """--label, --run-id, --key and the place; the command gets a `selector` instead of them."""

    @click.option("--label", metavar="LABEL", help="The pod whose runner has this label, as start printed it.")
    @click.option("--run-id", metavar="RUN", help="The workflow run, or what a local start printed.")
    @click.option(
        "--key", default="default", show_default=True, metavar="KEY", help="The key of the start, beside --run-id."
    )
    @place_options
    @functools.wraps(command)
    def with_selector(*args: Any, **values: Any) -> Any:  # noqa: ANN401 - whatever the command takes and gives
        names = ("label", "run_id", "key", "repository", "organization", "owner")
        return command(*args, selector=Selector(**{name: values.pop(name) for name in names}), **values)

    return with_selector  # type: ignore[return-value] # click replaces the signature


class WithRemoteCommand(click.Command):
    """A command in which everything after the first `--` is the remote command, whatever stands before it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep what follows the dashes from click, which would drop them."""
        if "--" in args:
            at = args.index("--")
            ctx.meta[_TAIL] = tuple(args[at + 1 :])
            args = args[:at]
        return super().parse_args(ctx, args)


def split_words(selector: Selector, words: Sequence[str]) -> tuple[Selector, tuple[str, ...]]:
    """The pod, and the remote command: what stands after `--`, else what follows the pod's id.

    Raises InvalidRequest when two things name the pod, or a word stands where none belongs.
    """
    after: tuple[str, ...] | None = click.get_current_context().meta.get(_TAIL)
    if after is None:
        if selector.by_option:
            return selector, tuple(words)
        return selector.with_id(words[0] if words else None), tuple(words[1:])
    if len(words) > 1:
        raise InvalidRequest(f"{words[1]}: only the pod's id stands before the dashes")
    return selector.with_id(words[0] if words else None), after


async def find_pod(session: Session, program: Program, selector: Selector) -> Pod:
    """Look the pod up; raises NotFound, InvalidRequest when nothing names a pod or several pods have the label."""
    from runner_provisioner.domain.pods import PodId  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.services.manual import ManualPods  # noqa: PLC0415 - keeps --help quick

    pods = ManualPods(program.providers, clock=program.clock, settle=session.settings.settle)
    if selector.pod_id is not None:
        return program.remembered(await pods.get(PodId(selector.pod_id)))
    if selector.label is not None:
        label = selector.label

        def labelled(pod: Pod) -> bool:
            tags = program.remembered(pod).tags
            return tags is not None and tags.label == label

        return program.remembered(await _only(pods, labelled, f"with the label {label}"))
    name = _name(session, selector)
    return program.remembered(await _only(pods, lambda pod: pod.name == name, f"named {name}"))


async def _only(pods: ManualPods, wanted: Callable[[Pod], bool], what: str) -> Pod:
    found = [pod for pod in await pods.list() if pod.alive and wanted(pod)]
    if not found:
        raise NotFound(f"no running pod {what}: 'status' shows what there is")
    if len(found) > 1:
        raise InvalidRequest(f"{len(found)} pods {what}: give the id of one ({', '.join(pod.id for pod in found)})")
    return await pods.get(found[0].id)


def _name(session: Session, selector: Selector) -> str:
    from runner_provisioner.domain.names import RunKey  # noqa: PLC0415 - keeps --help quick

    part = run_part(selector.run_id, session.settings)
    if part is None:
        raise InvalidRequest("which pod? give its id, or --label, or --run-id with what start printed")
    place = selector.place(session)
    return RunKey(owner8=place.owner8, run=part[0], attempt=part[1], key=selector.key).name


async def with_program(session: Session, work: Callable[[Program], Awaitable[Any]]) -> Any:  # noqa: ANN401 - whatever the work gives
    """Open what a command needs that looks at pods alone."""
    from runner_provisioner.cli.program import opened  # noqa: PLC0415 - imports everything

    async with opened(session, needs_github=False) as program:
        return await work(program)
