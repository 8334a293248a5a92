"""`info`: everything that is known of one pod."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from runner_provisioner.cli.connecting import connected_to, login_options
from runner_provisioner.cli.finding import Selector, find_pod, pod_options, with_program
from runner_provisioner.cli.pods import describe, lines_of
from runner_provisioner.cli.session import Session, command_options, run, usd
from runner_provisioner.domain.money import cost
from runner_provisioner.errors import HostKeyChanged, InvalidRequest, OutOfTime, ProtocolViolation, SshFailed

if TYPE_CHECKING:
    from runner_provisioner.domain.pods import Pod
    from runner_provisioner.wiring import Program


@click.command("info")
@click.argument("pod_id", required=False, metavar="[POD]")
@pod_options
@login_options
@click.option("--no-ssh", is_flag=True, help="Only what the provider says.")
@command_options
def command(
    *,
    session: Session,
    pod_id: str | None,
    selector: Selector,
    identity: str | None,
    trust_first: bool,
    no_ssh: bool,
) -> None:
    """Show a pod: addresses, state, price and cost so far, load, and over SSH how far its start script has come.

    A pod that cannot be logged in to is shown without the latter, and why. A changed host key is an error.
    """
    chosen = selector.with_id(pod_id)

    async def work(program: Program) -> None:
        pod = await find_pod(session, program, chosen)
        inside: dict[str, Any] = {"phase": None, "report": None, "files": None, "unknown": "not asked"}
        if not no_ssh:
            inside = await _inside(session, program, pod, identity, trust_first=trust_first)
        data = describe(pod) | _more(program, pod) | {"inside": inside}
        session.show(data, lines=[*lines_of(describe(pod) | _shown(_more(program, pod))), *_inside_lines(inside)])

    run(lambda: with_program(session, work))


def _more(program: Program, pod: Pod) -> dict[str, Any]:
    age = program.clock.now() - pod.created_at if pod.created_at else None
    return {
        "label": pod.tags.label if pod.tags else None,
        "repository": pod.tags.repository if pod.tags else None,
        "host": pod.ssh.host if pod.ssh else None,
        "port": pod.ssh.port if pod.ssh else None,
        "user": pod.ssh.user if pod.ssh else None,
        "host-key": (pod.tags.host_key if pod.tags else None) or pod.pinned,
        "host-key-trusted": "at first sight" if pod.pinned else None,
        "ssh-proxy": f"{pod.ssh_proxy.user}@{pod.ssh_proxy.host}" if pod.ssh_proxy else None,
        "age-seconds": int(age.total_seconds()) if age is not None else None,
        "cost-so-far": usd(cost(pod.price, age.total_seconds())) if pod.price is not None and age is not None else None,
    }


def _shown(more: dict[str, Any]) -> dict[str, Any]:
    """For a person, to whom the ssh command has told the address already."""
    return {name: value for name, value in more.items() if name not in {"host", "port", "user"}}


async def _inside(
    session: Session, program: Program, pod: Pod, identity: str | None, *, trust_first: bool
) -> dict[str, Any]:
    from runner_provisioner.ssh.commands import answer  # noqa: PLC0415 - asyncssh is slow to import
    from runner_provisioner.ssh.inside import facts, facts_command  # noqa: PLC0415 - keeps --help quick

    try:
        async with connected_to(session, program.clock, pod, identity, trust_first=trust_first) as connection:
            status, text = await answer(connection, facts_command(pod.id))
    except HostKeyChanged:
        raise
    except (SshFailed, InvalidRequest, OutOfTime, ProtocolViolation) as error:
        return {"phase": None, "report": None, "files": None, "unknown": str(error)}
    if status:
        return {"phase": None, "report": None, "files": None, "unknown": "no start script of ours has begun there"}
    found = facts(text)
    report = dataclasses.asdict(found.report) if found.report else None
    return {"phase": found.phase, "report": report, "files": found.files, "unknown": None}


def _inside_lines(inside: dict[str, Any]) -> list[str]:
    if inside["unknown"]:
        return [f"inside: unknown ({inside['unknown']})"]
    told = [f"report: {_told(inside['report'])}"] if inside["report"] else []
    return [f"inside: {inside['phase']}", *told, *(f"{name}: {value}" for name, value in inside["files"].items())]


def _told(report: dict[str, Any]) -> str:
    """What the pod tells of itself and of its machine."""
    found = [f"{name} {value}" for name, value in (report["gate"] or {}).items()]
    return ", ".join([report["phase"], *([report["reason"]] if report["reason"] else []), *found])
