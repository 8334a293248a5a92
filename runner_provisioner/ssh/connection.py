"""Connecting: the host key is known beforehand, sshd may need a while, and a dead peer is noticed."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncssh

from runner_provisioner.domain.addresses import bracketed
from runner_provisioner.errors import HostKeyChanged, LoginRefused, ProtocolViolation, RemoteError, SshFailed
from runner_provisioner.ssh.keys import Identity, client_keys

if TYPE_CHECKING:
    from runner_provisioner.ports import Clock
    from runner_provisioner.ssh.targets import Target

SERVICE = "ssh"
Connection = asyncssh.SSHClientConnection
FIRST_WAIT, LONGEST_WAIT = 0.5, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """In seconds: how long to try again while nothing answers, and how long one try may take.

    A peer that has said nothing for `keep_alive` seconds is asked for a sign of life, and given up after three times
    that.
    """

    coming_up: float = 30.0
    connect: float = 10.0
    login: float = 20.0
    keep_alive: float = 10.0


@asynccontextmanager
async def connected(
    target: Target, identity: Identity, *, clock: Clock, patience: Patience | None = None
) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """A connection for the length of a `with`, closed however it ends.

    Raises HostKeyChanged, LoginRefused, SshFailed (nothing answers, or the connection broke later), InvalidRequest (no
    key to log in with).
    """
    # It tells commands and addresses, and passes by our redactor.
    asyncssh.set_log_level(logging.CRITICAL + 1)
    async with client_keys(identity) as keys:
        connection = await _connect(target, keys, clock, patience or Patience())
        try:
            yield connection
        except asyncssh.SFTPError:
            raise
        except asyncssh.Error as error:
            raise _broken(target) from error
        finally:
            # Not closed in peace: a pod that has gone would never answer.
            connection.abort()


def shown_by(connection: asyncssh.SSHClientConnection) -> tuple[str, str]:
    """The host key that the server has shown, as one line without a comment, and its fingerprint."""
    key = connection.get_server_host_key()
    assert key is not None  # noqa: S101 - only with GSS, which is off
    kind, text = key.export_public_key().decode().split()[:2]
    return f"{kind} {text}", key.get_fingerprint()


async def _connect(
    target: Target, keys: Sequence[asyncssh.SSHKeyPair], clock: Clock, patience: Patience
) -> asyncssh.SSHClientConnection:
    begin, wait = clock.monotonic(), FIRST_WAIT
    known = _trusted(target)
    while True:
        try:
            return await _try(target, keys, known, patience)
        except (OSError, asyncssh.Error) as error:
            fatal = _fatal(target, error)
            if fatal is not None:
                raise fatal from error
            left = begin + patience.coming_up - clock.monotonic()
            if left <= 0:
                raise _silent(target, error) from error
        await clock.sleep(min(wait, left))
        wait = min(wait * 2, LONGEST_WAIT)


async def _try(
    target: Target,
    keys: Sequence[asyncssh.SSHKeyPair],
    known: tuple[Sequence[asyncssh.SSHKey], Sequence[asyncssh.SSHKey], Sequence[asyncssh.SSHKey]] | None,
    patience: Patience,
) -> asyncssh.SSHClientConnection:
    return await asyncssh.connect(
        target.endpoint.host,
        target.endpoint.port,
        username=target.endpoint.user,
        config=None,
        known_hosts=known,
        client_keys=keys,
        agent_path=None,
        preferred_auth="publickey",
        password_auth=False,
        kbdint_auth=False,
        host_based_auth=False,
        gss_host=None,
        x509_trusted_certs=None,
        agent_forwarding=False,
        connect_timeout=patience.connect,
        login_timeout=patience.login,
        keepalive_interval=patience.keep_alive,
        keepalive_count_max=3,
    )


def _trusted(target: Target) -> tuple[list[asyncssh.SSHKey], list[asyncssh.SSHKey], list[asyncssh.SSHKey]] | None:
    if target.host_key is None:
        return None
    try:
        return [asyncssh.import_public_key(target.host_key)], [], []
    except asyncssh.KeyImportError as error:
        raise ProtocolViolation(
            f"the host key among the tags of pod {target.pod_id} is none: not connecting; rent a new pod",
            service=SERVICE,
        ) from error


def _fatal(target: Target, error: Exception) -> RemoteError | None:
    """The error that no waiting would change."""
    where = bracketed(target.endpoint)
    # A server without a key of the kind that we know cannot agree on one.
    if isinstance(error, asyncssh.HostKeyNotVerifiable | asyncssh.KeyExchangeFailed):
        return HostKeyChanged(
            f"host key verification failed: what answers at {where} has another host key than pod {target.pod_id} was "
            "given: somebody may be in between; not connecting",
            service=SERVICE,
        )
    if isinstance(error, asyncssh.PermissionDenied):
        return LoginRefused(
            f"permission denied (publickey): none of your keys may log in to pod {target.pod_id} at {where}: name "
            "the right one with --identity",
            service=SERVICE,
        )
    return None


def _silent(target: Target, error: Exception) -> SshFailed:
    kinds = {
        ConnectionRefusedError: "the connection is refused: no sshd listens there (yet)",
        TimeoutError: "no answer in time",
    }
    why = next((text for kind, text in kinds.items() if isinstance(error, kind)), "no connection")
    return SshFailed(
        f"no SSH to pod {target.pod_id} at {bracketed(target.endpoint)}: {why}; try again, or see whether the pod "
        "runs with 'info'",
        service=SERVICE,
        code=type(error).__name__,
    )


def _broken(target: Target) -> SshFailed:
    return SshFailed(
        f"the SSH connection to pod {target.pod_id} broke: see whether the pod still runs with 'info'", service=SERVICE
    )
