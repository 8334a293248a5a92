"""What was there when an ending began, and when it need not be waited for any longer."""

from __future__ import annotations

from datetime import datetime

from runner_provisioner.domain.interruptions import lost
from runner_provisioner.domain.leases import Lease, Limits, Observation, Unknown
from runner_provisioner.domain.runners import Runner, RunnerState
from runner_provisioner.ports import Clock
from runner_provisioner.services.observe import Lookout


class Remembering:
    """A lookout that keeps the first sight of the pods: what an ending changes is not what it found.

    `at` is where the runner says that its pod is, None until one has said so.
    """

    def __init__(self, lookout: Lookout, *, clock: Clock, limits: Limits) -> None:
        self._lookout = lookout
        self._clock = clock
        self._limits = limits
        self._absent_since: datetime | None = None
        self.first: Observation | None = None
        self.at: str | None = None

    async def look(self, lease: Lease) -> Observation:
        """See everything; see `Lookout.look`."""
        seen = await self._lookout.look(lease)
        if self.first is None and not isinstance(seen.pods, Unknown):
            self.first = seen
        if seen.pods != ():
            self._absent_since = None
        else:
            self._absent_since = self._absent_since or self._clock.now()
        return self._told(seen)

    async def look_at_runner(self, lease: Lease, before: Observation) -> Observation:
        """See the runner anew; see `Lookout.look_at_runner`."""
        return self._told(await self._lookout.look_at_runner(lease, before))

    def _told(self, seen: Observation) -> Observation:
        if isinstance(seen.runner, Runner):
            self.at = seen.runner.provider or self.at
        return seen

    def only_a_ghost_is_left(self, lease: Lease, seen: Observation | None) -> bool:
        """Whether all that is left is the registration of a pod that was at work when it ended.

        GitHub believes for about ten minutes that such a runner is at work, and refuses to remove it (runner#3539). For
        the first of them it may even show it as connected, which counts where no pod was ever read by its id.
        """
        if seen is None or self.first is None:
            return False
        runner = seen.runner
        if not isinstance(runner, Runner) or runner.state is not RunnerState.BUSY:
            return False
        if lost(self.first) is None:
            # We ended its pod: of a job that was just over GitHub hears within seconds.
            return self._surely_gone(lease, seen) and self._absent_for_long()
        if runner.online and not lease.known:
            return False
        return self._surely_gone(lease, seen) and (bool(lease.known) or self._absent_for_long())

    def _surely_gone(self, lease: Lease, seen: Observation) -> bool:
        return seen.pods == () and lease.known <= seen.gone

    def _absent_for_long(self) -> bool:
        return self._absent_since is not None and self._clock.now() - self._absent_since >= self._limits.settle
