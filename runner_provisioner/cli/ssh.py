"""`ssh`: log in to a pod with OpenSSH, knowing its host key before the first connection."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from runner_provisioner.cli.connecting import trusted
from runner_provisioner.cli.finding import Selector, WithRemoteCommand, find_pod, pod_options, split_words, with_program
from runner_provisioner.cli.session import Session, command_options, run
from runner_provisioner.errors import ConfigurationError, InvalidRequest

if TYPE_CHECKING:
    from runner_provisioner.domain.pods import Pod, SshEndpoint

SSH_PORT = 22


@click.command("ssh", cls=WithRemoteCommand)
@click.argument("words", nargs=-1, metavar="[POD] [-- CMD...]")
@pod_options
@click.option("--identity", "-i", metavar="FILE", help="Private key to log in with.")
@click.option("--trust-first", is_flag=True, help="Accept the host key of a pod that says none of its own.")
@command_options
def command(
    *,
    session: Session,
    words: tuple[str, ...],
    selector: Selector,
    identity: str | None,
    trust_first: bool,
) -> None:
    """Log in to a pod, or run a command there: ssh POD -- nvidia-smi.

    Without a pod id, the pod of this run and key. The pod's host key was made by start and is checked. A pod without a
    public port is reached through the provider's proxy, where there is one: a terminal only. With --json it says how to
    connect instead of connecting. Ends with what ssh ends with.
    """
    program = shutil.which("ssh")
    if program is None:
        raise ConfigurationError("no ssh program found: install the OpenSSH client")
    chosen, remote = split_words(selector, words)
    pod = run(lambda: with_program(session, lambda opened: find_pod(session, opened, chosen)))
    if pod.ssh is None and pod.ssh_proxy is not None and pod.alive:
        raise SystemExit(_through_proxy(session, program, pod, identity, remote, trust_first=trust_first))
    raise SystemExit(_connect(session, program, pod, identity, remote, trust_first=trust_first))


def _connect(
    session: Session, program: str, pod: Pod, identity: str | None, remote: tuple[str, ...], *, trust_first: bool
) -> int:
    from runner_provisioner._files import TemporaryFiles  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.ssh.targets import target_of  # noqa: PLC0415 - keeps --help quick

    target = target_of(pod, trust_first=trust_first or session.as_json)
    endpoint, host_key = target.endpoint, target.host_key
    if session.as_json:
        session.show(_described(pod, endpoint, host_key))
        return 0
    with _signals_as_exits(), TemporaryFiles() as files:
        known_hosts = files.write("known_hosts", _known_host(endpoint, host_key).encode())
        checks = (
            f"UserKnownHostsFile={known_hosts}",
            "GlobalKnownHostsFile=/dev/null",
            f"StrictHostKeyChecking={'yes' if host_key else 'accept-new'}",
            "UpdateHostKeys=no",
        )
        arguments = _arguments(program, endpoint, identity, checks, remote)
        session.talk(f"connecting to {endpoint.user}@{endpoint.host} port {endpoint.port}{trusted(pod)}")
        # Not an exec: the known_hosts file is to be removed afterwards.
        return _run_in_foreground(arguments)


def _through_proxy(
    session: Session, program: str, pod: Pod, identity: str | None, remote: tuple[str, ...], *, trust_first: bool
) -> int:
    """The provider's proxy has a host key of its own, which the user's known_hosts remembers."""
    from runner_provisioner.domain.addresses import checked  # noqa: PLC0415 - keeps --help quick

    assert pod.ssh_proxy is not None  # noqa: S101 - for the type checker
    endpoint = checked(pod.ssh_proxy)
    if session.as_json:
        session.show(_described(pod, endpoint, None) | {"proxy": True})
        return 0
    if remote or not sys.stdin.isatty():
        raise InvalidRequest(
            f"pod {pod.id} has no public SSH port (it is {pod.state.value}), and {endpoint.host} gives a terminal "
            "only: wait until it runs, or start one with --port 22/tcp"
        )
    session.talk(f"no public SSH port: connecting through {endpoint.host}, whose host key your known_hosts keeps")
    checks = ("StrictHostKeyChecking=accept-new",) if trust_first else ()
    with _signals_as_exits():
        return _run_in_foreground(_arguments(program, endpoint, identity, checks, ()))


def _arguments(
    program: str, endpoint: SshEndpoint, identity: str | None, checks: tuple[str, ...], remote: tuple[str, ...]
) -> list[str]:
    return [
        program,
        *("-p", str(endpoint.port)),
        *(part for check in checks for part in ("-o", check)),
        # Never a password: a pod has none, and whoever asks for one is no pod.
        *("-o", "PasswordAuthentication=no", "-o", "KbdInteractiveAuthentication=no"),
        *("-o", "ServerAliveInterval=15"),
        *(("-i", identity) if identity else ()),
        # What follows is never an option, whatever the provider calls its host.
        "--",
        f"{endpoint.user}@{endpoint.host}",
        *remote,
    ]


def _described(pod: Pod, endpoint: SshEndpoint, host_key: str | None) -> dict[str, object]:
    return {
        "pod-id": pod.id,
        "host": endpoint.host,
        "port": endpoint.port,
        "user": endpoint.user,
        "host-key": host_key,
        "host-key-trusted": "at first sight" if pod.pinned else None,
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
    # OpenSSH looks the usual port up without brackets.
    name = endpoint.host if endpoint.port == SSH_PORT else f"[{endpoint.host}]:{endpoint.port}"
    return f"{name} {host_key}\n" if host_key else ""
