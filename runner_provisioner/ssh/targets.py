"""Where to connect to and which host key has to answer there."""

from __future__ import annotations

import re
from dataclasses import dataclass

from runner_provisioner.domain.addresses import checked
from runner_provisioner.domain.pods import Pod, SshEndpoint
from runner_provisioner.errors import InvalidRequest, ProtocolViolation

_HOST_KEY = re.compile(r"[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,3}( [ -~]*)?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A pod's SSH server; a `host_key` of None accepts whatever is shown."""

    pod_id: str
    endpoint: SshEndpoint
    host_key: str | None


def target_of(pod: Pod, *, trust_first: bool = False) -> Target:
    """The pod's public SSH server.

    Raises InvalidRequest when there is none (yet), and when the pod says no host key and nobody chose to trust what is
    shown; ProtocolViolation when the provider's address is none.
    """
    if pod.ssh is None:
        raise InvalidRequest(
            f"pod {pod.id} has no public SSH port (it is {pod.state.value}): wait until it runs, or start one with "
            "--port 22/tcp"
        )
    host_key = (pod.tags.host_key if pod.tags else None) or pod.pinned
    # It becomes a line of a known_hosts file.
    if host_key and not _HOST_KEY.fullmatch(host_key):
        raise ProtocolViolation(f"the host key among the tags of pod {pod.id} is none: not connecting; rent a new pod")
    if not host_key and not trust_first:
        raise InvalidRequest(f"pod {pod.id} says no host key of its own: --trust-first accepts what it shows")
    return Target(pod_id=pod.id, endpoint=checked(pod.ssh), host_key=host_key or None)
