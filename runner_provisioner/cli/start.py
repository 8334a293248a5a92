"""`start`: rent a pod and bring one runner online."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from runner_provisioner.cli.guard import guarded
from runner_provisioner.cli.options import request_of, request_options
from runner_provisioner.cli.session import (
    Session,
    attempt_of,
    command_options,
    first,
    place_of,
    place_options,
    run,
    run_part,
    when,
)
from runner_provisioner.domain.request import StartRequest
from runner_provisioner.errors import InvalidRequest, StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner_provisioner.domain.names import RunKey
    from runner_provisioner.services.provision import Started
    from runner_provisioner.wiring import Place, Program


@click.command("start")
@place_options
@click.option(
    "--key", default="default", show_default=True, metavar="KEY", help="Tells several starts of one run apart."
)
@click.option("--run-id", metavar="RUN", help="The workflow run, or what an earlier local start printed.")
@click.option(
    "--attempt",
    type=click.IntRange(1, 10_000),
    metavar="N",
    help="Which attempt of --run-id this is for; required for a run other than the one it is called in.",
)
@click.option(
    "--unique-label", metavar="LABEL", help="The label of an earlier start, which a job waits for; default: a new one."
)
@request_options(StartRequest)
@guarded
@command_options
def command(
    *,
    session: Session,
    repository: str | None,
    organization: str | None,
    owner: str | None,
    key: str,
    run_id: str | None,
    attempt: int | None,
    unique_label: str | None,
    **values: Any,  # noqa: ANN401 - the options of the request
) -> None:
    """Rent a GPU pod and bring one runner for one job online.

    Prints the label that the job must ask for with runs-on, and writes it to GITHUB_OUTPUT in a workflow.
    """
    from runner_provisioner.cli.interruption import check_label  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.domain.names import RunKey  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.wiring import local_run  # noqa: PLC0415 - imports everything

    request: StartRequest = request_of(StartRequest, values)
    place = place_of(session, repository, organization, owner)
    label = check_label(unique_label)
    run_name, current = run_part(run_id, session.settings) or (local_run(), 0)
    if attempt is None and run_id is not None and current and session.settings.run_id != int(run_id):
        raise InvalidRequest(
            f"--run-id {run_id}: give --attempt too, the attempt of that run whose job the runner is for"
        )
    run_key = RunKey(owner8=place.owner8, run=run_name, attempt=attempt_of(attempt, current), key=key)
    if current == 0:
        session.talk(
            f"no workflow run: any job of {place.repository or place.scope.path} that asks for the label may take it"
        )
    try:
        run(
            lambda: _start(session, place, run_key, request, label),
            after_cancel=lambda: after_cancel(session.timeline),
        )
    except Exception as error:
        _publish(session, run_key, failure=str(first(error)))
        raise


async def _start(session: Session, place: Place, key: RunKey, request: StartRequest, label: str | None) -> None:
    import anyio  # noqa: PLC0415 - keeps --help quick

    from runner_provisioner.cli.program import opened  # noqa: PLC0415 - imports everything
    from runner_provisioner.cli.progress import Progress  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.cli.schedule import warn_unless_cleaned  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.cli.ssh_keys import public_keys  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.clock import SystemClock  # noqa: PLC0415 - keeps --help quick

    progress = Progress(session, SystemClock(), before_renting=how_to_end(key))
    state = session.settings.state_dir / f"{key.name}.json"
    ssh_keys = await public_keys(request.ssh_key)
    if not ssh_keys:
        session.talk("no --ssh-key and no key in an SSH agent: the keys of the provider's account are used, if any")
    with anyio.CancelScope() as rest:
        async with (
            opened(
                session,
                place=place,
                runner_group=request.runner_group,
                events=progress,
                required=request.provider,
            ) as program,
            anyio.create_task_group() as group,
        ):
            ssh_keys = await program.public_keys(request, ssh_keys)
            order, store = program.order(request, key, state=state, ssh_keys=ssh_keys, label=label)
            group.start_soon(progress.tick)
            group.start_soon(warn_unless_cleaned, session, program, place)
            try:
                started = await program.start(request, store).run(order)
            except BaseException:
                with suppress(StoreError):
                    store.forget_unused()
                raise
            finally:
                progress.clear()
            # From here on the start has succeeded: a late signal must not turn a reported runner into a failure.
            rest.shield = True
            group.cancel_scope.cancel()
            try:
                _report(session, key, started)
            except Exception:
                await _take_back(session, program, key)
                raise


async def _take_back(session: Session, program: Program, key: RunKey) -> None:
    """End what nobody will learn of."""
    import anyio  # noqa: PLC0415 - keeps --help quick

    session.talk("the result could not be handed over: ending the pod")
    with anyio.CancelScope(shield=True):
        await program.ending().stop(key)


def after_cancel(timeline: Sequence[Mapping[str, Any]]) -> str:
    """What a cancelled start leaves, as far as it is known."""
    names = {event["event"] for event in timeline}
    done = next((event for event in reversed(timeline) if event["event"] == "give_back_done"), None)
    if not names & {"offer_tried", "pod_rented"} and (done is None or done["complete"]):
        return "nothing was rented"
    if done is not None and done["complete"]:
        return "nothing is left"
    left = done["left"] if done is not None else None
    return f"not seen gone: {left or 'what was rented'}; 'stop' or 'cleanup' ends what is left"


def how_to_end(key: RunKey) -> str | None:
    """The command that ends a start outside Actions; in a workflow `stop` knows the run."""
    return f"to end it: runner-provisioner stop --run-id {key.run} --key {key.key}" if key.attempt == 0 else None


def _report(session: Session, key: RunKey, started: Started) -> None:
    outputs = outputs_of(started)
    data = {
        **outputs,
        "run-id": key.run if key.attempt == 0 else str(key.run_id),
        "key": key.key,
        "refused": [{"offer": offer, "reason": reason} for offer, reason in started.refusals],
        "timeline": session.timeline,
    }
    session.show(data, lines=[f"{name}: {value}" for name, value in outputs.items() if value])
    if session.settings.github_output is not None:
        from runner_provisioner.cli.actions import write_outputs  # noqa: PLC0415 - only in a workflow

        write_outputs(session.settings.github_output, outputs)
    _publish(session, key, outputs)


def _publish(
    session: Session, key: RunKey, outputs: Mapping[str, str] | None = None, *, failure: str | None = None
) -> None:
    from runner_provisioner.cli.summary import of_start, publish  # noqa: PLC0415 - keeps --help quick

    publish(session, f"GPU runner {key.name}", of_start(outputs, session.timeline, failure))


def outputs_of(started: Started) -> dict[str, str]:
    """What a workflow gets; no secret among it."""
    pod = started.pod
    price = pod.price if pod.price is not None else (started.offer.price if started.offer else None)
    interruptible = pod.interruptible
    if interruptible is None and started.offer is not None:
        interruptible = started.offer.interruptible
    return {
        "label": started.label,
        "runner-name": started.name,
        "pod-id": pod.id,
        "provider": pod.provider,
        "gpu-type": pod.gpu_model or (started.offer.gpu_model if started.offer else ""),
        "price-per-hour": str(price) if price is not None else "",
        "interruptible": "" if interruptible is None else str(interruptible).lower(),
        "ssh-command": f"ssh -p {pod.ssh.port} {pod.ssh.user}@{pod.ssh.host}" if pod.ssh else "",
        "started-at": when(pod.created_at or started.started_at) or "",
    }
