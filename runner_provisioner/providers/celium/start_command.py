"""The start command on its way to a container of Lium: through a shell that nobody quoted it for, and once only.

The node splices a template's `startup_commands` bare into one line for its own shell, its environment in single quotes
that escape nothing, and drops empty values; docker starts the container again whenever its command ends, with the same
line (Datura-ai/lium-io a2df68a, docker service). So the line holds nothing that a shell expands, splits at or quotes
with, save one pair of single quotes; and what it decodes to runs its command in the first container alone.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from runner_provisioner.errors import InvalidRequest

LINE_LIMIT = 100_000  # characters; Linux takes 131,072 for one argument, and the node's whole line is one
ENTRYPOINT = "env"
"""With it no entrypoint of the image stays in front; where a template's entrypoint is ignored, the line is whole."""

# Folders on the container's own disk: a tmpfs forgets when the container restarts.
PLACES = ("/opt", "/var/lib", '"${HOME:-/root}"', "/var/tmp")  # noqa: S108 - a folder is made there, exclusively

_LINE = re.compile(r"bash -O lastpipe -c 'echo ([A-Za-z0-9+/]+=*)\|base64 -d\|exec bash'")
_COMMAND = re.compile(r"^command=(.*)^run\(\) \{\ntrap - TERM INT\nset \+m\neval ", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNQUOTABLE = re.compile(r"['\x00-\x1f\x7f]")

# The command runs in a child, since a container that ends right after its start is a creation that failed; and in a
# function, since bash tells the text of a job that a signal has killed. `set -m`: or it could never hear SIGINT.
_SCRIPT = """\
{{
exec </dev/null
say() {{ printf 'runner-provisioner: %s\\n' "$1"; }}
idle() {{
say "$1: idle until this pod is removed"
while :; do
sleep 86400 &
wait "$!" || read -rt 60 <> <(:)
done
}}
stop() {{
trap '' TERM INT
if [[ $! ]]; then
kill -s TERM "$!" 2>/dev/null
wait "$!"
fi
exit 143
}}
first=''
trap stop TERM INT
for place in {places}; do
if [[ -e $place/{mark} ]]; then idle 'the container has started before'; fi
done
for place in {places}; do
if mkdir "$place/{mark}" 2>/dev/null; then first=1; fi
done
if [[ ! $first ]]; then idle 'no folder can be written to'; fi
command={command}
run() {{
trap - TERM INT
set +m
{exports}eval "$command"
}}
set -m
( run ) &
command=''
wait "$!"
idle "the start command has ended with $?"
}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartLine:
    """What a template says of the start: its entrypoint, its `startup_commands`, its environment."""

    entrypoint: str
    startup: str = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)


def start_line(command: str, env: Mapping[str, str], *, places: Sequence[str] = PLACES) -> StartLine:
    """Have `command` (a bash command line) run once in a pod's container with this environment.

    In every later container of the pod, and after the command's end, nothing runs until the pod is removed: the start
    is remembered in each of `places` (as the shell reads them) that can be written to, under a name made of command
    and environment. A variable whose value the node would spoil (empty, or with a single quote or a control character)
    reaches the command alone. Needs bash and base64 in the image. Pure: the same command gives the same line.

    Raises InvalidRequest for a name that is none, a null character, or when all is too long for one line.
    """
    plain, hidden = _sorted(env)
    script = _SCRIPT.format(
        places=" ".join(places),
        mark=f".runner-provisioner-{_fingerprint(command, env)}",
        command=_literal("the start command", command),
        exports="".join(f"export {name}={_literal(name, value)}\n" for name, value in hidden.items()),
    )
    blob = base64.b64encode(script.encode()).decode()
    # The last part of the pipe runs in the first shell itself, and becomes another whose command line shows nothing.
    startup = f"bash -O lastpipe -c 'echo {blob}|base64 -d|exec bash'"
    _check_length(startup, plain)
    return StartLine(entrypoint=ENTRYPOINT, startup=startup, environment=plain)


def command_of(line: StartLine) -> str | None:
    """The command that `start_line` made it of; None for another's line, or for one that hides variables too."""
    found = _LINE.fullmatch(line.startup)
    if found is None or line.entrypoint != ENTRYPOINT:
        return None
    try:
        script = base64.b64decode(found[1], validate=True).decode()
    except ValueError:
        return None
    held = _COMMAND.search(script)
    words = shlex.split(held[1]) if held is not None else []
    return words[0] if len(words) == 1 else None


def bare_environment(env: Mapping[str, str]) -> dict[str, str]:
    """The environment of a pod that runs its image's own command; InvalidRequest for one that would be spoilt."""
    plain, hidden = _sorted(env)
    for name, value in hidden.items():
        if value:
            raise InvalidRequest(
                f"variable '{name}': Lium hands no value with a single quote or a line end to a pod without a start "
                "command: remove them, or give a start command"
            )
    _check_length("", plain)
    return plain


def _sorted(env: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Those that pass through the node unharmed, and the others."""
    for name in env:
        if not _NAME.fullmatch(name):
            raise InvalidRequest(f"variable {name!r}: a name has the letters A-Z and a-z, digits and underscores")
    hidden = {name: value for name, value in env.items() if not value or _UNQUOTABLE.search(value)}
    return {name: value for name, value in env.items() if name not in hidden}, hidden


def _fingerprint(command: str, env: Mapping[str, str]) -> str:
    """Of this pod alone, as its environment holds its nonce: what it is kept under may outlive the pod."""
    said = "\0".join([command, *(f"{name}={env[name]}" for name in sorted(env))])
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _literal(name: str, text: str) -> str:
    if "\0" in text:
        raise InvalidRequest(f"'{name}' holds a null character: remove it")
    return shlex.quote(text)


def _check_length(startup: str, env: Mapping[str, str]) -> None:
    length = len(startup) + sum(len(name) + len(value.encode()) + 8 for name, value in env.items())
    if length > LINE_LIMIT:
        raise InvalidRequest(
            f"the start command and the environment are {length - LINE_LIMIT} characters too long for a node of Lium: "
            "shorten the variables"
        )
