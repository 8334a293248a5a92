"""`ssh`: log in to a pod with OpenSSH, knowing its host key before the first connection."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
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

    Without a pod id, the pod of this run and key. The pod's host key was made by start and is checked. With --json it
    says how to connect instead of connecting. Ends with what ssh ends with.
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
    from runner_provisioner.cli.program import opened  # noqa: PLC0415 - imports everything
    from runner_provisioner.domain.pods import PodId  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.services.manual import ManualPods  # noqa: PLC0415 - keeps --help quick

    async with opened(session, needs_github=False) as program:
        pods = ManualPods(program.providers, clock=program.clock, settle=session.settings.settle)
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

    endpoint, host_key = _endpoint(pod), _host_key(pod)
    if session.as_json:
        session.show(_described(pod, endpoint, host_key))
        return 0
    if host_key is None and not trust_first:
        raise InvalidRequest(f"pod {pod.id} says no host key of its own: --trust-first accepts what it shows")
    with _signals_as_exits(), TemporaryFiles() as files:
        known_hosts = files.write("known_hosts", _known_host(endpoint, host_key).encode())
        arguments = [
            program,
            *("-p", str(endpoint.port)),
            *("-o", f"UserKnownHostsFile={known_hosts}"),
            *("-o", "GlobalKnownHostsFile=/dev/null"),
            *("-o", f"StrictHostKeyChecking={'yes' if host_key else 'accept-new'}"),
            *("-o", "UpdateHostKeys=no"),
            *(("-i", identity) if identity else ()),
            # What follows is never an option, whatever the provider calls its host.
            "--",
            f"{endpoint.user}@{endpoint.host}",
            *remote,
        ]
        session.talk(f"connecting to {endpoint.user}@{endpoint.host} port {endpoint.port}")
        # Not an exec: the known_hosts file is to be removed afterwards.
        return _run_in_foreground(arguments)


def _endpoint(pod: Pod) -> SshEndpoint:
    if pod.ssh is None:
        raise InvalidRequest(
            f"pod {pod.id} has no public SSH port (it is {pod.state.value}): wait until it runs, or start one with "
            "--port 22/tcp"
        )
    return pod.ssh


def _host_key(pod: Pod) -> str | None:
    return pod.tags.host_key if pod.tags else None


def _described(pod: Pod, endpoint: SshEndpoint, host_key: str | None) -> dict[str, object]:
    return {
        "pod-id": pod.id,
        "host": endpoint.host,
        "port": endpoint.port,
        "user": endpoint.user,
        "host-key": host_key,
        "ssh-command": f"ssh -p {endpoint.port} {endpoint.user}@{endpoint.host}",
    }


@contextmanager
def _signals_as_exits() -> Iterator[None]:
    """Turn what would kill this process into an orderly exit, so that no file stays."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = {one: signal.signal(one, leave) for one in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _run_in_foreground(arguments: list[str]) -> int:
    with subprocess.Popen(arguments) as process:  # noqa: S603 - our own argument list, no shell
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue  # Ctrl-C reached ssh as well, and is its to answer
            except SystemExit:
                process.terminate()
                raise


def _known_host(endpoint: SshEndpoint, host_key: str | None) -> str:
    return f"[{endpoint.host}]:{endpoint.port} {host_key}\n" if host_key else ""
