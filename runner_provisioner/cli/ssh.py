"""`ssh`: log in to a pod with OpenSSH, knowing its host key before the first connection."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import click

from runner_provisioner.cli.session import Session, command_options, place_of, place_options, run, run_part
from runner_provisioner.errors import ConfigurationError, InvalidRequest, NotFound

if TYPE_CHECKING:
    from runner_provisioner.domain.pods import Pod, SshEndpoint


@click.command("ssh", context_settings={"ignore_unknown_options": False})
@click.argument("pod_id", required=False)
@click.argument("remote_command", nargs=-1, type=click.UNPROCESSED)
@place_options
@click.option(
    "--key", default="default", show_default=True, metavar="KEY", help="The key of the start, when no pod id is given."
)
@click.option("--run-id", metavar="RUN", help="The workflow run, or what a local start printed.")
@click.option("--identity", "-i", metavar="FILE", help="Private key to log in with.")
@click.option("--trust-first", is_flag=True, help="Accept the host key of a pod that says none of its own.")
@command_options
def command(  # noqa: PLR0913 - click hands every option over by name
    *,
    session: Session,
    pod_id: str | None,
    remote_command: tuple[str, ...],
    repository: str | None,
    organization: str | None,
    owner: str | None,
    key: str,
    run_id: str | None,
    identity: str | None,
    trust_first: bool,
) -> None:
    """Log in to a pod, or run a command there: ssh POD_ID -- nvidia-smi.

    Without a pod id, the pod of this run and key. The pod's host key was made by start and is checked.
    """
    program = shutil.which("ssh")
    if program is None:
        raise ConfigurationError("no ssh program found: install the OpenSSH client")
    name = None if pod_id else _name(session, repository, organization, owner, key, run_id)
    pod = run(lambda: _find(session, pod_id, name))
    raise SystemExit(_connect(session, program, pod, identity, remote_command, trust_first=trust_first))


def _name(
    session: Session, repository: str | None, organization: str | None, owner: str | None, key: str, run_id: str | None
) -> str:
    from runner_provisioner.domain.names import RunKey  # noqa: PLC0415 - keeps --help quick

    part = run_part(run_id, session.settings)
    if part is None:
        raise InvalidRequest("which pod? give its id, or --run-id with what start printed")
    place = place_of(session, repository, organization, owner)
    return RunKey(owner8=place.owner8, run=part[0], attempt=part[1], key=key).name


async def _find(session: Session, pod_id: str | None, name: str | None) -> Pod:
    from runner_provisioner.cli.progress import Progress  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.cli.session import redactor  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.clock import SystemClock  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.domain.pods import PodId  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.services.manual import ManualPods  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.wiring import assemble  # noqa: PLC0415 - imports everything

    clock = SystemClock()
    async with assemble(
        session.settings, events=Progress(session, clock), redactor=redactor(), needs_github=False, clock=clock
    ) as program:
        pods = ManualPods(program.providers, clock=clock, settle=session.settings.settle)
        if pod_id is not None:
            return await pods.get(PodId(pod_id))
        found = [pod for pod in await pods.list() if pod.name == name and pod.alive]
        if not found:
            raise NotFound(f"no running pod named {name}: 'status' shows what there is")
        return await pods.get(found[0].id)


def _connect(
    session: Session, program: str, pod: Pod, identity: str | None, remote: tuple[str, ...], *, trust_first: bool
) -> int:
    from runner_provisioner._files import TemporaryFiles  # noqa: PLC0415 - keeps --help quick

    if pod.ssh is None:
        raise InvalidRequest(f"pod {pod.id} has no public SSH port (state {pod.state}): start it with --port 22/tcp")
    host_key = pod.tags.host_key if pod.tags else None
    if host_key is None and not trust_first:
        raise InvalidRequest(f"pod {pod.id} says no host key of its own: --trust-first accepts what it shows")
    with TemporaryFiles() as files:
        known_hosts = files.write("known_hosts", _known_host(pod.ssh, host_key).encode())
        arguments = [
            program,
            "-p",
            str(pod.ssh.port),
            "-o",
            f"UserKnownHostsFile={known_hosts}",
            "-o",
            "GlobalKnownHostsFile=/dev/null",
            "-o",
            f"StrictHostKeyChecking={'yes' if host_key else 'accept-new'}",
            *(["-i", identity] if identity else []),
            f"{pod.ssh.user}@{pod.ssh.host}",
            *remote,
        ]
        session.talk(f"connecting to {pod.ssh.user}@{pod.ssh.host} port {pod.ssh.port}")
        # Not an exec: the known_hosts file is to be removed afterwards. Ctrl-C belongs to ssh.
        return _run_in_foreground(arguments)


def _run_in_foreground(arguments: list[str]) -> int:
    with subprocess.Popen(arguments) as process:  # noqa: S603 - our own argument list, no shell
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue


def _known_host(endpoint: SshEndpoint, host_key: str | None) -> str:
    return f"[{endpoint.host}]:{endpoint.port} {host_key}\n" if host_key else ""
