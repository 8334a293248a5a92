"""RunPod's own end of a pod, alone: no stop, no clean-up, and a pod that asks for nothing, in virtual time."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import anyio
from support import virtual_time
from support.inprocess import Process, World, small_request

from runner_provisioner.simulators.runpod.pods import SimPod

LIFETIME = timedelta(hours=2)


def test_the_provider_ends_a_pod_that_everybody_forgot(tmp_path: Path) -> None:
    """At its lifetime and not before, although its job goes on for ever and nobody calls anything."""

    async def main(loop: virtual_time.VirtualLoop) -> SimPod:
        world = World(tmp_path, loop, library=False)
        outcome = await Process(world=world).start(small_request(lifetime=LIFETIME))
        assert outcome.ok, repr(outcome.error)
        pod = world.runpod.pod(outcome.result.pod.id)
        world.work(pod.id, [outcome.result.label])
        calls = len(world.runpod.calls)
        rest = (pod.created_at + LIFETIME - world.clock.now()).total_seconds()
        await anyio.sleep(rest - 5)
        assert world.live() == [pod]
        await anyio.sleep(10)
        assert not world.live()
        assert len(world.runpod.calls) == calls, "somebody else asked for something"
        assert world.runpod.bill().gpu == world.used()
        return pod

    pod = virtual_time.run(main)
    assert pod.happened("terminated by terminateAfter")
    assert pod.ended_at is not None
    # The end is asked for with the create: RunPod counts from a moment before the pod was made.
    assert timedelta() <= pod.created_at + LIFETIME - pod.ended_at < timedelta(seconds=5)


def test_the_provider_ends_no_pod_that_was_given_no_end(tmp_path: Path) -> None:
    """A stranger's pod outlives ours."""

    async def main(loop: virtual_time.VirtualLoop) -> None:
        world = World(tmp_path, loop, library=False)
        stranger = world.runpod.add_pod("somebody-elses")
        outcome = await Process(world=world).start(small_request(lifetime=LIFETIME))
        assert outcome.ok, repr(outcome.error)
        world.work(outcome.result.pod.id, [outcome.result.label])
        await anyio.sleep(2 * LIFETIME.total_seconds())
        assert world.live() == [stranger]

    virtual_time.run(main)
