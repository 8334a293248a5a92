"""The runner's configuration for a pod that waits for it: made at the last moment, handed over, made anew if lost."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from runner_provisioner.domain.pods import Pod
from runner_provisioner.domain.runners import creator_label, end_label, provider_label
from runner_provisioner.errors import RunnerNameTaken, Timeout
from runner_provisioner.ports import HandOver, JobQueue, RunnerRegistry

LONGEST = 45.0  # seconds: a pass that hands over must not keep the lease from being looked after


class JitHandOver:
    """Level-triggered: the pod says whether it waits, so that asking again is harmless and nothing is remembered."""

    def __init__(self, *, registry: RunnerRegistry, way_in: HandOver, labels: Sequence[str]) -> None:
        """`labels` are the runner's; who rented the pod, when it ends and where it is are added to them."""
        self._registry = registry
        self._way_in = way_in
        self._labels = tuple(labels)

    async def give(self, pod: Pod, name: str, *, more: Sequence[str] = ()) -> bool:
        """Hand a new configuration over if the pod waits for one; whether it did. `more` are labels of this one.

        Raises RemoteError; then the next pass does it again.
        """
        try:
            with anyio.fail_after(LONGEST):
                if not await self._way_in.waits(pod):
                    return False
                await self._way_in.give(pod, await self._config(name, pod, more))
        except TimeoutError as error:
            raise Timeout(f"pod {pod.id} did not take its configuration in {LONGEST:.0f} s", service="ssh") from error
        return True

    async def give_if_wanted(self, pod: Pod, queue: JobQueue, repository: str) -> bool:
        """Hand over if the pod waits and a job of `owner/repository` that asks for its label is queued; whether it did.

        For who comes after the start: a runner that nobody needs any more is not made anew. It gets every label that
        the job asks for.
        """
        label = pod.tags.label if pod.tags else None
        if not await self._way_in.waits(pod):
            return False
        jobs = await queue.queued_jobs(repository)
        wanted = next((job for job in jobs if label is not None and label in job.labels), None)
        if wanted is None:
            return False
        return await self.give(pod, pod.name, more=wanted.labels)

    async def _config(self, name: str, pod: Pod, more: Sequence[str]) -> str:
        # The pod's own creator: this start may only have found the pod of one that was killed.
        creator, ends = (pod.tags.creator, pod.tags.expires_at) if pod.tags else (None, None)
        told = (creator_label(creator) if creator else "", end_label(ends) if ends else "")
        labels = tuple(dict.fromkeys((*self._labels, *more, *filter(None, told), provider_label(pod.provider))))
        try:
            return await self._registry.jit_config(name, labels)
        except RunnerNameTaken:
            # Left by a configuration that was never used, or whose answer was lost (ubicloud#692). The name stays as it
            # is: stop and clean-up find the runner by it.
            left = await self._registry.find(name)
            if left is not None and left.online:
                raise
            if left is not None:
                await self._registry.remove(left.id)
            return await self._registry.jit_config(name, labels)
