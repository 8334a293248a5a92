"""What happens to the pods of a service, as records of its log."""

from __future__ import annotations

from runner_provisioner.domain.events import Event
from runner_provisioner.logging import get_logger

_AMISS = frozenset(
    {
        "bill_unknown",
        "budget_unknown",
        "create_unanswered",
        "kill_time_not_set",
        "pods_without_key",
        "state_not_written",
    }
)

log = get_logger("pods")


class EventLog:
    """An EventSink that keeps nothing: each event is one record, with the request that it happened for."""

    def emit(self, event: Event) -> None:
        """A warning where the operator may have to do something, an error with its traceback where nobody expected it.

        All else is for information.
        """
        said = {name: value for name, value in event.fields.items() if value is not None}
        if event.failure is not None:
            log.error(event.name, **said, exc_info=event.failure)
            return
        write = log.warning if _is_amiss(event) else log.info
        write(event.name, **said)


def _is_amiss(event: Event) -> bool:
    if event.name == "provider_passed_over":
        return not event.fields.get("about")  # else it is the request that does not suit this provider
    return event.name.endswith("_failed") or event.name in _AMISS
