"""The parts of the program that watch pods and repeat what an interruption broke."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from runner_provisioner.accounts import secret_of
from runner_provisioner.domain.interruptions import Explained, seal_key
from runner_provisioner.domain.leases import Lease, Outcome, Phase, drain
from runner_provisioner.domain.offers import Interruptible
from runner_provisioner.errors import InvalidRequest
from runner_provisioner.services.rerun import Rental, Rerun
from runner_provisioner.services.watch import Watch
from runner_provisioner.storage.state_file import StateFile, resume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from runner_provisioner.domain.names import RunKey
    from runner_provisioner.domain.pods import Pod
    from runner_provisioner.domain.request import StartRequest
    from runner_provisioner.services.ending import Ended
    from runner_provisioner.services.provision import Started
    from runner_provisioner.settings import Settings
    from runner_provisioner.wiring import Place, Program


def seal_of(settings: Settings) -> bytes:
    """The key of the seal on records of interruptions: who has the provider's credential, has it."""
    return seal_key(secret_of(settings))


def watch_of(program: Program, place: Place) -> Watch:
    """The use case that follows a pod."""
    github, repository = program.github, place.repository
    assert github is not None  # noqa: S101 - the command has opened the program with it

    async def hand_over(pod: Pod) -> bool:
        pod = program.remembered(pod)
        tags = pod.tags
        if repository is None or tags is None or tags.nonce is None or tags.label is None:
            return False
        return await program.jit(tags.nonce, labels=(tags.label,)).give_if_wanted(pod, github.queue, repository)

    return Watch(
        repository=repository,
        providers=program.providers,
        registry=github.runners,
        runs=program.runs,
        ending=program.ending(),
        clock=program.clock,
        events=program.events,
        polls=program.polls,
        settle=timedelta(seconds=program.settings.settle),
        history=program.history,
        hand_over=hand_over,
    )


def rerun_of(program: Program, place: Place, run_id: int, attempt: int) -> Rerun:
    """The use case that repeats what an interruption broke. InvalidRequest without a repository."""
    if place.repository is None:
        raise InvalidRequest("rerun repeats a run of one repository: give --repository OWNER/NAME")
    return Rerun(
        repository=place.repository,
        owner8=place.owner8,
        run_id=run_id,
        attempt=attempt,
        seal=seal_of(program.settings),
        runs=program.runs,
        files=program.files,
        providers=program.providers,
        clock=program.clock,
        events=program.events,
        settle=timedelta(seconds=program.settings.settle),
        hurry=program.tempo.hurry,
    )


def rentals_of(
    program: Program, request: StartRequest, jobs: Sequence[Explained], *, folder: Path, ssh_keys: tuple[str, ...]
) -> list[Rental]:
    """How the next attempt of jobs that lost their machines gets others.

    Where they are several, the first that is ready waits until the last one is, which takes a start timeout at most:
    its idle time is longer by that.
    """
    if len(jobs) > 1:
        longest = request.lifetime - timedelta(seconds=1)
        request = replace(request, idle=min(request.idle + request.start_timeout, longest))
    return [_rental_of(program, request, job, folder=folder, ssh_keys=ssh_keys) for job in jobs]


def _rental_of(
    program: Program, request: StartRequest, job: Explained, *, folder: Path, ssh_keys: tuple[str, ...]
) -> Rental:
    """How the next attempt of a job that lost its machine gets another; on demand after the second time."""
    if job.times > 1:
        request = replace(request, interruptible=Interruptible.NEVER, bid=None)
    key = replace(job.key, attempt=job.key.attempt + 1)
    state = folder / f"{key.name}.json"

    async def rent() -> Started:
        order, store = program.order(request, key, state=state, ssh_keys=ssh_keys, label=job.label)
        return await program.start(request, store).run(order)

    async def give_back() -> None:
        await settle(program, state, key)

    return Rental(name=key.name, rent=rent, give_back=give_back)


async def settle(program: Program, state: Path, key: RunKey) -> list[Ended]:
    """End what an unfinished start with this state file left, and nothing that another one made.

    Raises StoreError, LeftBehind and the RemoteErrors of an ending.
    """
    store = StateFile(state, creator="")
    record = store.read()
    if record is None:
        return []
    requested = Lease(name=key.name, phase=Phase.REQUESTED)
    lease = resume(record, creator="", deadline=program.clock.now(), lease=requested)
    ended = await program.ending().drain([drain(lease, Outcome.CANCELLED)], key.owner8)
    store.forget()
    return ended
