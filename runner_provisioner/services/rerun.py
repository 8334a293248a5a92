"""Re-run: rent anew for the jobs of an attempt that lost their machines, then have GitHub repeat them, once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import anyio

from runner_provisioner.domain.events import Event
from runner_provisioner.domain.interruptions import ARTIFACT, Explained, Findings, Interruption, decode, explain
from runner_provisioner.domain.pods import Pod
from runner_provisioner.domain.runners import RunStatus
from runner_provisioner.errors import JobStillRunning, ProvisioningFailed, RemoteError, RunnerProvisionerError
from runner_provisioner.ports import Clock, EventSink, GpuProvider, RunAttempts, RunFiles
from runner_provisioner.services.provision import CANCEL_WINDOW, GIVE_BACK_WINDOW, Started

_LOOKS = 2  # for an attempt that an unanswered order may have begun, `settle` apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Rental:
    """A machine that is about to be rented: how, and how what came of it is given back; both may raise any error."""

    name: str
    rent: Callable[[], Awaitable[Started]]
    give_back: Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What is known of an attempt that has ended; `why_not` is why nothing is to be done, None when something is."""

    findings: Findings
    why_not: str | None = None

    @property
    def jobs(self) -> Sequence[Explained]:
        """The jobs to rent for."""
        return self.findings.explained if self.why_not is None else ()


@dataclass
class _Progress:
    rented: bool = False
    asked: bool = False
    errors: list[RunnerProvisionerError] = field(default_factory=list)


class Rerun:
    """The use case. Until the new attempt exists, what it has rented is its own to end."""

    def __init__(  # noqa: PLR0913 - the collaborators of a use case, by keyword
        self,
        *,
        repository: str,
        owner8: str,
        run_id: int,
        attempt: int,
        seal: bytes,
        runs: RunAttempts,
        files: RunFiles,
        providers: Mapping[str, GpuProvider],
        clock: Clock,
        events: EventSink,
        settle: timedelta,
        hurry: Callable[[], None],
    ) -> None:
        """`attempt` is the one that has ended, of the run `run_id` of `repository` (owner/name)."""
        self._repository = repository
        self._owner8 = owner8
        self._run_id = run_id
        self._attempt = attempt
        self._seal = seal
        self._runs = runs
        self._files = files
        self._providers = providers
        self._clock = clock
        self._events = events
        self._settle = settle
        self._hurry = hurry

    async def survey(self, *, most_attempts: int) -> Survey:
        """Find out whether interruptions explain the whole failure. Rents nothing.

        Raises JobStillRunning while the attempt has not ended, and any RemoteError of a look that failed.
        """
        status = await self._runs.attempt(self._repository, self._run_id, self._attempt)
        if status is not RunStatus.COMPLETED:
            what = "has not ended" if status is not None else "does not exist"
            raise JobStillRunning(f"attempt {self._attempt} of run {self._run_id} {what}: ask again when it has ended")
        if await self.has_begun():
            return Survey(findings=Findings(), why_not=f"attempt {self._attempt + 1} exists already")
        jobs = await self._runs.jobs(self._repository, self._run_id, self._attempt)
        records = await self._records()
        pods = await self._pods()
        findings = explain(jobs, records, pods, owner8=self._owner8, run_id=self._run_id, attempt=self._attempt)
        return Survey(findings=findings, why_not=self._why_not(findings, most_attempts))

    async def carry_out(self, rentals: Sequence[Rental]) -> list[Started]:
        """Rent them all, side by side, then ask once for the re-run.

        Raises what kept a rental or the re-run from succeeding, and ProvisioningFailed when one of several machines
        went meanwhile; then what was rented is given back, unless the new attempt exists all the same: it is its `stop`
        that ends it. When cancelled this takes `CANCEL_WINDOW` seconds.
        """
        progress = _Progress()
        try:
            started = await self._rent(rentals, progress)
            await self._check_that_none_has_gone(started)
            await self._order(progress)
        except anyio.get_cancelled_exc_class():
            # Until all are there each gives its own back, within the one window that there is; twice is harmless.
            if progress.rented:
                self._hurry()
                await self._undo(rentals, progress, CANCEL_WINDOW)
            raise
        except Exception:
            await self._undo(rentals, progress, GIVE_BACK_WINDOW)
            raise
        self._tell("rerun_asked", run=self._run_id, attempt=self._attempt + 1)
        return started

    async def has_begun(self) -> bool:
        """Whether the new attempt exists."""
        return await self._runs.attempt(self._repository, self._run_id, self._attempt + 1) is not None

    # --- looking

    async def _records(self) -> list[Interruption]:
        found = await self._files.small_files(self._repository, self._run_id, ARTIFACT)
        records = [decode(data, self._seal) for data in found]
        if None in records:
            self._tell("record_not_believed", count=records.count(None))
        return [one for one in records if one is not None]

    async def _pods(self) -> list[Pod]:
        pods: list[Pod] = []
        for provider in self._providers.values():
            for listed in await provider.list(self._owner8):
                # A list may still show what is gone: only what a read by id shows counts.
                pod = await provider.get(listed.id)
                pods += [pod] if pod is not None else []
        return pods

    def _why_not(self, findings: Findings, most_attempts: int) -> str | None:
        if findings.unexplained:
            return "; ".join(findings.unexplained)
        if not findings.explained:
            return "no job of this attempt lost its machine"
        if self._attempt >= most_attempts:
            return f"attempt {self._attempt} was the last that --max-attempts {most_attempts} allows"
        return None

    # --- doing

    async def _rent(self, rentals: Sequence[Rental], progress: _Progress) -> list[Started]:
        found: list[Started] = []
        waited = len(rentals)
        complete = anyio.Event()

        async def one(rental: Rental) -> None:
            nonlocal waited
            try:
                found.append(await rental.rent())
            except RunnerProvisionerError as error:
                # The others go on to where they can be given back in peace.
                progress.errors.append(error)
            waited -= 1
            if not waited:
                # From here on no child may be there any more to give its own back when a cancellation comes.
                progress.rented = True
                complete.set()
            try:
                await complete.wait()
            except anyio.get_cancelled_exc_class():
                # Beside those that are cancelled while they rent: there is one window for all of them.
                self._hurry()
                with anyio.move_on_after(CANCEL_WINDOW, shield=True):
                    await self._give_back(rental)
                raise

        async with anyio.create_task_group() as group:
            for rental in rentals:
                group.start_soon(one, rental)
        if progress.errors:
            raise progress.errors[0]
        return sorted(found, key=lambda started: started.name)

    async def _check_that_none_has_gone(self, started: Sequence[Started]) -> None:
        """One that was ready first has waited for the others; its job would wait for it without end."""
        for one in started if len(started) > 1 else ():
            try:
                pod = await self._providers[one.pod.provider].get(one.pod.id)
            except RemoteError as error:
                self._tell("look_failed", service=error.service or None, error=str(error))
                continue
            if pod is None or not pod.alive:
                raise ProvisioningFailed(
                    f"pod {one.pod.id} of {one.name} ended while the other machines were rented: nothing is repeated, "
                    "and all of them are given back; run 'rerun' again"
                )

    async def _order(self, progress: _Progress) -> None:
        progress.asked = True
        try:
            await self._runs.rerun_failed_jobs(self._repository, self._run_id)
        except RemoteError as error:
            # An answer that was lost, or somebody who was quicker: either way the attempt has our label and our pod.
            if not await self._began_after_all():
                raise
            self._tell("rerun_began_all_the_same", error=str(error))

    async def _began_after_all(self) -> bool:
        for look in range(_LOOKS):
            if look:
                await self._clock.sleep(self._settle.total_seconds())
            try:
                if await self.has_begun():
                    return True
            except RemoteError as error:
                self._tell("look_failed", service=error.service or None, error=str(error))
        return False

    async def _undo(self, rentals: Sequence[Rental], progress: _Progress, seconds: float) -> None:
        """Give everything back, shielded; not what the new attempt has come to own while nobody listened."""
        with anyio.move_on_after(seconds, shield=True):
            if progress.asked and await self._is_owned():
                self._tell("rerun_began_all_the_same", error=None)
                return
            async with anyio.create_task_group() as group:
                for rental in rentals:
                    group.start_soon(self._give_back, rental)

    async def _is_owned(self) -> bool:
        try:
            return await self.has_begun()
        except RemoteError:
            # A job without its machine waits until clean-up cancels its run; a machine without its job costs money.
            return False

    async def _give_back(self, rental: Rental) -> None:
        try:
            await rental.give_back()
        except RunnerProvisionerError as error:
            self._tell("give_back_failed", lease=rental.name, error=str(error))

    def _tell(self, name: str, **fields: str | float | bool | None) -> None:
        self._events.emit(Event(name=name, at=self._clock.now(), fields=fields))
