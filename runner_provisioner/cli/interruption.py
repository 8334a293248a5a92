"""The record of an interruption: a sealed file, which the action keeps as an artifact of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner_provisioner.cli.session import Session
from runner_provisioner.domain.interruptions import LABEL, Interruption, artifact_name, encode, interrupted, lost
from runner_provisioner.errors import InvalidRequest, RemoteError, StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner_provisioner.domain.names import RunKey
    from runner_provisioner.services.ending import Ended
    from runner_provisioner.wiring import Place, Program


async def found_by_stop(program: Program, place: Place, key: RunKey, ended: Sequence[Ended]) -> Interruption | None:
    """What a stop came too late for: the interruption of this key's pod in this attempt, when there was one."""
    # Of a pod at a provider that nobody asked it is not known that it is gone.
    first = next((one.first for one in ended if one.name == key.name and one.at in {None, *program.providers}), None)
    loss = lost(first) if first is not None else None
    if first is None or loss is None or key.run_id is None or place.repository is None:
        return None
    if loss.pod is None and first.runner is None:
        return None  # as after every job that came to its end
    try:
        jobs = await program.runs.jobs(place.repository, key.run_id, key.attempt)
    except RemoteError:
        jobs = None
    return interrupted(key.name, loss, first, jobs, program.clock.now())


async def remember(program: Program, found: Interruption) -> None:
    """Have the memory of the installation know of it, if there is one; what cannot be written is told."""
    from runner_provisioner.domain.events import Event  # noqa: PLC0415 - only when there is something to remember
    from runner_provisioner.domain.history import Ending  # noqa: PLC0415 - likewise
    from runner_provisioner.domain.leases import PodRef  # noqa: PLC0415 - likewise
    from runner_provisioner.domain.pods import PodId  # noqa: PLC0415 - likewise

    history = program.history
    if history is None or found.provider is None or found.pod is None:
        return
    try:
        await history.ended(PodRef(found.provider, PodId(found.pod)), found.at, Ending.INTERRUPTED)
    except StoreError as error:
        fields = {"error": str(error)}
        program.events.emit(Event(name="history_not_written", at=program.clock.now(), fields=fields))


def keep(session: Session, key: RunKey, found: Interruption) -> None:
    """Write the record, and tell the action where it is. Raises StoreError."""
    from runner_provisioner._files import write_private  # noqa: PLC0415 - only when there is something to keep
    from runner_provisioner.cli.actions import write_outputs  # noqa: PLC0415 - likewise
    from runner_provisioner.cli.repeating import seal_of  # noqa: PLC0415 - likewise

    settings = session.settings
    path = settings.state_dir / f"interruption-{found.name}.json"
    write_private(path, encode(found, seal_of(settings)))
    session.warn(f"{found.name} lost its machine before its job was done ({found.reason})")
    if settings.github_output is not None:
        write_outputs(settings.github_output, {"record": str(path), "record-name": artifact_name(key)})


def shown(found: Interruption | None) -> dict[str, str | None] | None:
    """The interruption for --json."""
    if found is None:
        return None
    return {
        "name": found.name,
        "label": found.label,
        "provider": found.provider,
        "pod": found.pod,
        "machine": found.machine,
        "reason": found.reason,
        "at": found.at.isoformat(timespec="seconds"),
    }


def check_label(label: str | None) -> str | None:
    """The unique label that a job waits for, as `start` has made it. Raises InvalidRequest."""
    if label is not None and not LABEL.fullmatch(label):
        raise InvalidRequest(f"--unique-label {label}: give what a start printed, rp- and 26 letters")
    return label
