"""`wait`: until a pod's SSH answers, its runner is online, or it has ended."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from runner_provisioner.cli.connecting import connected_to, login_options
from runner_provisioner.cli.finding import Selector, find_pod, pod_options
from runner_provisioner.cli.options import Duration
from runner_provisioner.cli.session import Session, command_options, run
from runner_provisioner.domain.durations import show_duration
from runner_provisioner.errors import NotFound, OutOfTime, ProvisioningFailed, SshFailed, TransientError

if TYPE_CHECKING:
    from runner_provisioner.domain.pods import Pod, PodState
    from runner_provisioner.wiring import Program


@click.command("wait")
@click.argument("pod_id", required=False, metavar="[POD]")
@pod_options
@login_options
@click.option(
    "--for",
    "event",
    type=click.Choice(["ssh", "runner", "end"]),
    default="runner",
    show_default=True,
    help="What to wait for: one can log in; its runner is online at GitHub; it has ended.",
)
@click.option("--timeout", type=Duration(), default=timedelta(minutes=20), metavar="TIME", help="[default: 20m]")
@command_options
def command(
    *,
    session: Session,
    pod_id: str | None,
    selector: Selector,
    identity: str | None,
    trust_first: bool,
    event: str,
    timeout: timedelta,
) -> None:
    """Wait for a pod: until one can log in, its runner is online, or it has ended.

    Ends with 124 when the time is over, and with 24 when the pod ended before what was waited for. A pod that does not
    exist has ended.
    """
    chosen = selector.with_id(pod_id)
    place = chosen.place(session) if event == "runner" else None
    watch = _Watch(session, event, identity, trust_first=trust_first)

    async def work() -> None:
        import anyio  # noqa: PLC0415 - slow to import

        from runner_provisioner.cli.program import opened  # noqa: PLC0415 - imports everything

        async with opened(session, place=place, needs_github=place is not None) as program:
            try:
                with anyio.fail_after(timeout.total_seconds()):
                    data = await watch.over(program, chosen)
            except TimeoutError as error:
                raise OutOfTime(f"not so after {show_duration(timeout)}: {watch.last}") from error
            session.show(data, lines=[f"{data['pod-id'] or 'pod'}: {data['event']}"])

    run(work)


class _Watch:
    """Looks until it is so; `last` is what was seen last, for whoever gives up."""

    def __init__(self, session: Session, event: str, identity: str | None, *, trust_first: bool) -> None:
        self.last = "nothing was seen yet"
        self._state: PodState | None = None
        self._session = session
        self._event = event
        self._identity = identity
        self._trust_first = trust_first

    async def over(self, program: Program, selector: Selector) -> dict[str, object]:
        """What came of it. Raises ProvisioningFailed when the pod ended and something else was waited for."""
        try:
            pod: Pod | None = await find_pod(self._session, program, selector)
        except NotFound:
            if self._event != "end":
                raise
            pod = None
        look = {"ssh": self._ssh, "runner": self._runner}.get(self._event)
        known = pod
        while pod is not None and pod.alive:
            known = pod
            if look is None or pod.state is not self._state:
                self._state, self.last = pod.state, f"pod {pod.id} is {pod.state.value}"
            if look is not None and await look(program, pod):
                return {"pod-id": pod.id, "event": self._event, "state": pod.state.value}
            await program.clock.sleep(self._session.settings.poll_booting)
            pod = await self._again(program, pod)
        if look is not None and known is not None:
            raise ProvisioningFailed(f"pod {known.id} has ended: there is nothing to wait for any more; see its logs")
        state = pod.state.value if pod is not None else "gone"
        return {"pod-id": known.id if known else None, "event": "end", "state": state}

    async def _again(self, program: Program, pod: Pod) -> Pod | None:
        """A look whose failure changes nothing, and an absence that a second look confirms."""
        try:
            for _ in range(2):
                found = await program.providers[pod.provider].get(pod.id)
                if found is not None:
                    return found
                await program.clock.sleep(self._session.settings.settle)
        except TransientError:
            return pod
        return None

    async def _ssh(self, program: Program, pod: Pod) -> bool:
        if pod.ssh is None:
            return False
        try:
            async with connected_to(self._session, program.clock, pod, self._identity, trust_first=self._trust_first):
                return True
        except SshFailed as error:
            if type(error) is not SshFailed:
                raise
            self.last = str(error)
            return False

    async def _runner(self, program: Program, pod: Pod) -> bool:
        if program.github is None:  # pragma: no cover - asked for above
            return False
        try:
            runner = await program.github.runners.find(pod.name)
        except TransientError as error:
            self.last = str(error)
            return False
        self.last = (
            f"pod {pod.id} is {pod.state.value}, its runner is {'not registered' if runner is None else 'offline'}"
        )
        return runner is not None and runner.online
