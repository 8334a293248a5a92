"""Starting what was rented where pods boot bare: looked at in every pass, begun at most once, never remembered here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import anyio

from runner_provisioner.domain.bare import Inside, Stage
from runner_provisioner.domain.pods import Pod, PodSpec
from runner_provisioner.errors import Timeout
from runner_provisioner.ports import BareDoor

LONGEST = 45.0  # seconds: a pass that starts a pod must not keep the lease from being looked after


class OverSsh:
    """Level-triggered: the pod says whether it has begun, so that a start that was killed goes on where it was."""

    def __init__(self, *, doors: Mapping[str, BareDoor], public_keys: Mapping[str, str]) -> None:
        """By provider: the ways in, and the public keys that its pods have to let in."""
        self._doors = doors
        self.public_keys = public_keys

    async def bring(self, pod: Pod, draw_up: Callable[[], Awaitable[PodSpec]]) -> tuple[Inside, bool]:
        """Look into the pod and start it, if nothing has begun there; whether that was done.

        Raises RemoteError and StoreError; then the next pass does it again.
        """
        door = self._doors[pod.provider]
        try:
            with anyio.fail_after(LONGEST):
                inside = await door.look(pod)
                bare = inside.stage is Stage.BARE
                if bare:
                    await door.begin(pod, await draw_up())
        except TimeoutError as error:
            raise Timeout(f"pod {pod.id} was not started in {LONGEST:.0f} s", service="ssh") from error
        return inside, bare
