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
        missing = _missing(stop, [start for start in starts if stop.fits(start)])
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
    if workflow not in _begun(repository):
        return
    stops = [call for one in _begun(repository) for call in one.calls(Mode.STOP)]
    for rerun in workflow.calls(Mode.RERUN):
        missing = _names(market for stop in stops if stop.markets for market in rerun.markets - stop.markets)
        if missing:
            yield workflow.finding(
                STOP_PROVIDER,
                "this rerun may rent from a provider that a stop here has no key of, and such a machine bills on: give "
                f"the stop {missing} too, or let the rerun rent from its providers alone",
                rerun.line,
            )


def _begun(repository: Repository) -> list[Workflow]:
    """What is only called rents and stops with the keys that its caller hands over, and names all that there are."""
    return [one for one in repository.workflows if one.triggers.keys() != {"workflow_call"}]


def _cleanups(workflow: Workflow, repository: Repository) -> Iterator[Finding]:
    renting = [call for one in _begun(repository) for call in one.calls(*RENTING)]
    cleaning = [call for one in repository.workflows if one.is_scheduled for call in one.calls(Mode.CLEANUP)]
    if not all(call.markets for call in cleaning):
        return
    known = frozenset(market for call in cleaning for market in call.markets)
    for call in list(workflow.calls(Mode.CLEANUP))[:1]:
        missing = _names(market for one in renting for market in one.markets - known)
        if missing:
            yield workflow.finding(
                CLEANUP_PROVIDER,
                "workflows here may rent from a provider that no scheduled clean-up has the key of, which ends what a "
                f"stop could not: give this one {missing} too",
                call.line,
            )


def _missing(stop: Call, starts: Iterable[Call]) -> str:
    return _names(market for start in starts for market in start.markets - stop.markets) if stop.markets else ""


def _names(markets: Iterable[str]) -> str:
    """The variables of these providers' keys."""
    wanted = set(markets)
    first = {market: name for name, market in reversed(MARKETS.items())}
    return " and ".join(name for market, name in sorted(first.items()) if market in wanted)
