"""What `stop` and `cleanup` note in the history. A history that cannot be used is a warning, never a failure."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from runner_provisioner.domain.history import LONGEST_RUN, Ending
from runner_provisioner.domain.leases import PodRef, Unknown
from runner_provisioner.domain.pods import PodId
from runner_provisioner.domain.request import StartRequest
from runner_provisioner.domain.runners import Runner, RunnerState
from runner_provisioner.errors import RemoteError, StoreError
from runner_provisioner.services.chronicle import record_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from runner_provisioner.cli.session import Session
    from runner_provisioner.cli.spending import Jobs
    from runner_provisioner.domain.history import PodRecord
    from runner_provisioner.github.runs import Job
    from runner_provisioner.ports import History
    from runner_provisioner.services.ending import Ended
    from runner_provisioner.services.sweep import Swept
    from runner_provisioner.wiring import Program

YOUNG = timedelta(minutes=10)


async def book_stop(
    session: Session, program: Program, jobs: Jobs, ended: Sequence[Ended], lost: Mapping[str, datetime]
) -> list[PodRecord]:
    """Note that these names have nothing left, and when their jobs ran; gives the records of their time.

    `lost` are the names whose pod the provider took back, and when.
    """
    if program.history is None:
        return []
    now = program.clock.now()
    try:
        known = await program.history.pods(now - LONGEST_RUN)
        for record in [*known, *await _add_missing(program.history, ended, known, now)]:
            one = next((one for one in ended if one.name == record.name), None)
            # What nobody could look at is not known to have ended.
            if one is not None and record.provider in program.providers:
                if record.name in lost:
                    pod, at = PodRef(record.provider, record.id), lost[record.name]
                    await program.history.ended(pod, min(at, record.expires_at, now), Ending.INTERRUPTED)
                asked = record.job_ended_at is None and not _was_idle(one)
                job = await jobs.of(record.name) if asked else None
                await _close(program.history, record, one, job, now)
        return list(await program.history.pods(now - LONGEST_RUN))
    except StoreError as error:
        session.warn(str(error))
        return []


async def book_cleanup(session: Session, program: Program, swept: Swept) -> None:
    """Note the ends of what a clean-up ended, and of pods that ended by themselves and that nobody noted."""
    if program.history is None:
        return
    pods = [PodRef(entry.provider, PodId(entry.id)) for entry in swept.ended if entry.kind == "pod"]
    try:
        for pod in pods:
            await program.history.ended(pod, program.clock.now(), Ending.ASKED)
        if not any(error.service != "github" for error in swept.errors):
            await _close_gone(program, program.history)
    except (StoreError, RemoteError) as error:
        session.warn(str(error))


async def keyless(
    session: Session, program: Program, told: Mapping[str, str | None], names: Collection[str] | None = None
) -> list[str]:
    """The pods that nobody can look at, since no key of their provider is here: one line for each.

    They are on record, of these `names` alone where some are given, or a runner has `told` where its name's pod is. The
    record is not asked where the program is narrowed, nor said to be unreadable.
    """
    records = [one for one in await _not_ended(session, program) if names is None or one.name in names]
    lines = [
        f"pod {one.id} at {one.provider}: it is on record as not ended, and no key of {one.provider} is here"
        for one in records
    ]
    known = {(one.name, one.provider) for one in records}
    return lines + [
        f"the pod of {name}: its runner says that it is at {at}, and {_why_unseen(session, at)}"
        for name, at in told.items()
        if at is not None and at not in program.providers and (name, at) not in known
    ]


async def _not_ended(session: Session, program: Program) -> list[PodRecord]:
    """Those on record whose provider is not looked at, and should be."""
    if program.history is None or session.providers:
        return []
    try:
        records = await program.history.pods(program.clock.now())
    except StoreError:
        return []  # whoever writes to it says why
    return [one for one in records if one.ended_at is None and one.provider not in program.providers]


def _why_unseen(session: Session, provider: str) -> str:
    return f"--provider leaves {provider} out" if session.providers else f"no key of {provider} is here"


async def _add_missing(
    history: History, ended: Sequence[Ended], records: Sequence[PodRecord], now: datetime
) -> list[PodRecord]:
    """Note the pods that were found and are not among the records: another job's start may have noted them."""
    known = {(record.provider, record.id) for record in records}
    added = []
    found = [one.first.pods for one in ended if one.first is not None and not isinstance(one.first.pods, Unknown)]
    for pod in (pod for pods in found for pod in pods if (pod.provider, pod.id) not in known):
        record = record_of(pod, None, lifetime=StartRequest().lifetime, now=now)
        if record is not None:
            await history.rented(record)
            added.append(record)
    return added


def _was_idle(ended: Ended) -> bool:
    """Whether the runner waited for its one job when the stop came, so that no job of it need be looked up."""
    runner = ended.first.runner if ended.first is not None and not ended.ghost else None
    return isinstance(runner, Runner) and runner.state is RunnerState.IDLE


async def _close_gone(program: Program, history: History) -> None:
    """Close the records of pods that their provider lists no more; a young one may not be in the list yet."""
    now = program.clock.now()
    open_ = [
        one
        for one in await history.pods(now)
        if one.ended_at is None and one.provider in program.providers and now - one.created_at > YOUNG
    ]
    for name in sorted({one.provider for one in open_}):
        listed = {pod.id for pod in await program.providers[name].list(None)}
        for one in open_:
            if one.provider == name and one.id not in listed:
                await history.ended(PodRef(name, one.id), min(one.expires_at, now), Ending.ITSELF)


async def _close(history: History, record: PodRecord, ended: Ended, job: Job | None, now: datetime) -> None:
    pod = PodRef(record.provider, record.id)
    done = record.job_ended_at
    if job is not None and _ran(record, job):
        done = job.completed_at
        await history.worked(pod, job.started_at, done)
    if record.id in ended.pods:
        await history.ended(pod, now, Ending.ASKED)
    elif record.ended_at is None:
        # Gone before: with its job, as its switch has it, or else at a moment that nobody saw.
        await history.ended(pod, min(done or now, record.expires_at, now), Ending.ITSELF)


def _ran(record: PodRecord, job: Job) -> bool:
    """Whether the job was this pod's: several of one name follow each other."""
    # GitHub tells whole seconds.
    if job.started_at is None or job.started_at < record.created_at.replace(microsecond=0):
        return False
    return record.ended_at is None or job.started_at < record.ended_at
