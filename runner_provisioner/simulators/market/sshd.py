"""A provider that runs sshd in the pod, beside whatever the pod's command is."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

# The host key is made where the pod runs and nobody else has it, as with the providers.
_SETUP = """\
mkdir -p /root/.ssh /run/sshd && chmod 700 /root/.ssh
printf '%s\\n' {keys} >/root/.ssh/authorized_keys && chmod 600 /root/.ssh/authorized_keys
printf '%s\\n' {environment} >>/etc/environment
[ -f /etc/ssh/ssh_host_ed25519_key ] || ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
"$(command -v sshd)"
"""
_BEFORE = '{{\n{setup}}} </dev/null >/dev/null 2>&1\nexec "$@"'
_LATER = '(\nsleep {later}\n{setup}) </dev/null >/dev/null 2>&1 &\nexec "$@"'


def with_sshd(
    argv: Sequence[str], keys: Sequence[str], *, later: float = 0.0, environment: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """The command with an sshd that admits these keys as root; `environment` goes into /etc/environment.

    `later`: seconds after the command's start, as where a provider installs sshd in the running container; with 0 the
    command starts when sshd answers. Without an sshd in the image the command starts nevertheless.
    """
    lines = [f"{name}={value}" for name, value in (environment or {}).items()]
    setup = _SETUP.format(keys=_quoted(keys), environment=_quoted(lines))
    script = (_LATER if later else _BEFORE).format(setup=setup, later=later)
    return ("/bin/bash", "-c", script, "sshd-beside", *argv)


def _quoted(words: Sequence[str]) -> str:
    return " ".join(shlex.quote(word) for word in words) or "''"
