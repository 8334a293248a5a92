"""Whether what ends machines has the key of every provider that they may be rented from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from runner_provisioner.lint.findings import CLEANUP_PROVIDER, STOP_PROVIDER, Finding
from runner_provisioner.lint.model import MARKETS, RENTING, Call, Mode, Repository, Workflow


def check(workflow: Workflow, repository: Repository) -> Iterator[Finding]:
    """All checks of providers' keys.

    Who is given no key that can be seen here has it from elsewhere, or fails and is noticed; who is given some of them
    ends what it sees, and is content.
    """
    starts = list(workflow.calls(Mode.START))
    for stop in workflow.calls(Mode.STOP):
        missing = _missing([start for start in starts if stop.fits(start)], [stop])
        if missing:
            yield workflow.finding(
                STOP_PROVIDER,
                f"the start of key '{stop.key or '?'}' may rent from a provider that this stop has no key of, and such "
                f"a machine bills on: give the stop {missing} too",
                stop.line,
            )
    yield from _reruns(workflow, repository)
    if workflow.is_scheduled:
        yield from _cleanups(workflow, repository)


def _reruns(workflow: Workflow, repository: Repository) -> Iterator[Finding]:
    """What a rerun rents is ended by the stop of the run that it repeats."""
    begun = _begun(repository)
    if workflow not in begun:
        return
    stops = [call for one in begun if _follows(workflow, one) for call in one.calls(Mode.STOP, Mode.GPU_JOB)]
    for rerun in workflow.calls(Mode.RERUN):
        missing = _missing([rerun], stops)
        if missing:
            yield workflow.finding(
                STOP_PROVIDER,
                "this rerun may rent from a provider that a stop here has no key of, and such a machine bills on: give "
                f"the stop {missing} too, or let the rerun rent from its providers alone",
                rerun.line,
            )


def _follows(workflow: Workflow, other: Workflow) -> bool:
    """Whether a workflow may look at the runs of another: at any, unless it names those that it comes after."""
    trigger = workflow.triggers.get("workflow_run")
    names = [one.text for one in trigger.get("workflows").texts] if trigger is not None else []
    return not names or other.node.get("name").text in names or _file(other.file) in map(_file, names)


def _file(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]


def _begun(repository: Repository) -> list[Workflow]:
    """What is only called rents and stops with the keys that its caller hands over, and names all that there are."""
    return [one for one in repository.workflows if one.triggers.keys() != {"workflow_call"}]


def _cleanups(workflow: Workflow, repository: Repository) -> Iterator[Finding]:
    renting = [call for one in _begun(repository) for call in one.calls(*RENTING)]
    cleaning = [call for one in repository.workflows if one.is_scheduled for call in one.calls(Mode.CLEANUP)]
    first = next(workflow.calls(Mode.CLEANUP), None)
    if first is None or not all(call.markets for call in cleaning):
        return
    known = frozenset(market for call in cleaning for market in call.markets)
    missing = _names(market for one in renting for market in one.markets - known)
    if missing:
        yield workflow.finding(
            CLEANUP_PROVIDER,
            "workflows here may rent from a provider that no scheduled clean-up has the key of, which ends what a "
            f"stop could not: give this one {missing} too",
            first.line,
        )


def _missing(renting: Iterable[Call], stops: Iterable[Call]) -> str:
    """The keys that one of the stops would need for what may be rented; of a stop without any nothing is known."""
    known = [stop.ends_at for stop in stops if stop.ends_at]
    return _names(market for call in renting for held in known for market in call.markets - held)


def _names(markets: Iterable[str]) -> str:
    """The variables of these providers' keys."""
    wanted = set(markets)
    return " and ".join(names[0] for market, names in sorted(MARKETS.items()) if market in wanted)
