"""Renders the command line that starts a runner in a pod.

The template `start.sh` gets its values, loses its comments, is packed with gzip and base64, and travels in one
argument of `bash -c`. The command writes it to a file that only its owner can read, takes the pod-scoped key out of
the environment into the same file, and becomes the script, so that no command line and no environment shows a secret.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import shlex
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from string import ascii_lowercase
from urllib.parse import urlsplit

from runner_provisioner.domain.containers import check_mount
from runner_provisioner.domain.gate import GateFloor
from runner_provisioner.domain.request import RunAs
from runner_provisioner.domain.runners import RunnerDownload
from runner_provisioner.domain.variables import check_variables
from runner_provisioner.errors import InvalidRequest

COMMAND_LIMIT = 8192  # bytes of dockerArgs as JSON; RunPod does not publish its limit, this is a choice of our own
ENTRYPOINT = ("bash", "-c")

_SETTINGS_BEGIN = "# >>> settings\n"
_SETTINGS_END = "# <<< settings\n"
_LATER_BEGIN = "# >>> after the gate\n"
_LATER_END = "# <<< after the gate\n"
_SEAM = "\0\n"  # no text of a shell can hold it
_FUNCTION = r"^{}\(\) \{{\n(?:.+\n|\n)*?\}}\n"
_GLOBAL = re.compile(r"\brp_[a-z0-9_]+\b")
_GZIP = 31  # zlib's code for a gzip header
_NAME = re.compile(r"^([a-z_]+)\(\) ", re.MULTILINE)
_IN_COMMAND = r"(^|[;&|(){!] |[(]|\b(?:if|then|else|do|while|until|trap) )(%s)(?=[ ;)\n]|\(\))"
_HOOKS = frozenset({"guard", "completed"})  # printed by their own names into files that the runner runs
# Local variables of the script that occur in no text of it.
_LOCAL_NAMES = "begun client delay fetching limit missing parent parents piece prepared repository url"
_LOCALS = re.compile(rf"(?<![\w/.-])({_LOCAL_NAMES.replace(' ', '|')})(?![\w/.])")
_BYTES_PER_MEGABIT = 125_000
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_SHORTEST_TOKEN = 8  # a shorter one would be found in innocent command lines
_PLACES = "/tmp /dev/shm /var/tmp /run . /"  # noqa: S108 - the file is created exclusively, for its owner alone
_CANNOT = "runner-provisioner: idle: no base64, gzip or writable folder"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerScript:
    """Everything the script needs; times in seconds since the container started.

    `repository` (`owner/repository`) and `run_id` are whose jobs may run; without a repository any of `owner`'s may,
    without a run any run's. Without a token the runner's configuration is waited for (jit.sh). `rest_url` ends in the
    version (`.../v2`). `job_env` is given to the job alone; `linger_seconds` is how long a pod
    that failed its gate waits to be seen. The pod's environment has to hold `render_gate` of the same
    `gate` as RP_GATE, or nothing is registered, and the host's public key as RP_HOST_KEY.
    """

    name: str
    url: str
    token: str | None = field(repr=False)
    labels: tuple[str, ...]
    runner_group: str | None = None
    download: RunnerDownload
    run_as: RunAs = RunAs.USER
    idle_seconds: int
    lifetime_seconds: int
    register_seconds: int
    volume_mount: str | None = None
    owner: str
    repository: str | None = None
    run_id: int | None = None
    graphql_url: str
    rest_url: str
    host_private_key: str | None = field(default=None, repr=False)
    gate: GateFloor = field(default_factory=GateFloor)
    job_env: Mapping[str, str] = field(default_factory=dict, repr=False)
    linger_seconds: int = 0


def render(script: RunnerScript) -> str:
    """Give the command line for `["bash", "-c", ...]`; the same script gives the same line.

    Raises InvalidRequest for values that cannot work, and, naming what to shorten, when the start command as JSON
    would not stay under 8 KiB.
    """
    _check(script)
    template = _template(jit=script.token is None)
    names = template.names
    settings = _settings(script, names)
    mark = hashlib.sha256(settings.encode()).hexdigest()[:10]
    settings += f"{names['rp_mark']}={mark}\n"
    command = _command(_pack(settings, template.first), mark, names["rp_key"])
    size = docker_args_size(command)
    if size >= COMMAND_LIMIT:
        raise InvalidRequest(
            f"the start command is {size - COMMAND_LIMIT + 1} bytes too long: shorten {_longest(script)}"
        )
    return command


def docker_args_size(command: str) -> int:
    """Bytes of RunPod's `dockerArgs` with this command."""
    return len(json.dumps({"entrypoint": list(ENTRYPOINT), "cmd": [command]}).encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Template:
    """The script without its settings: what the command holds, what comes with the gate, the short names of globals."""

    first: str
    later: str
    names: Mapping[str, str]


@cache
def _template(*, jit: bool) -> _Template:
    whole = _source("start.sh")
    if jit:
        for name, function in _functions(_source("jit.sh")):
            old = re.search(_FUNCTION.format(name), whole, flags=re.MULTILINE)
            assert old is not None, name  # noqa: S101 - the two files belong together
            whole = whole.replace(old[0], function)
    head, settings, rest = _parted(whole, _SETTINGS_BEGIN, _SETTINGS_END)
    before, later, after = _parted(rest, _LATER_BEGIN, _LATER_END)
    bare = _bare(head + before) + _SEAM + _bare(later) + _SEAM + _bare(after)
    found = Counter(_GLOBAL.findall(settings + bare))
    ordered = sorted(found, key=lambda name: (-found[name], name))
    names = {name: f"_{letters}" for name, letters in zip(ordered, _letters(), strict=False)}
    before, later, after = _shorter_functions(_GLOBAL.sub(lambda match: names[match[0]], bare)).split(_SEAM)
    return _Template(first=before + after, later=later, names=names)


def _parted(text: str, begin: str, end: str) -> tuple[str, str, str]:
    before, _, rest = text.partition(begin)
    within, _, after = rest.partition(end)
    return before, within, after


def _bare(text: str) -> str:
    """Without comments, empty lines and indentation."""
    lines = (line.lstrip("\t") for line in text.splitlines())
    return "".join(f"{line}\n" for line in lines if line and not line.startswith("#"))


def _shorter_functions(text: str) -> str:
    """The script with its functions named by one or two capitals, where they are called and nowhere else."""
    found = [name for name in _NAME.findall(text) if name not in _HOOKS]
    short = dict(zip(found, map(str.upper, _letters()), strict=False))
    calls = re.compile(_IN_COMMAND % "|".join(found), re.MULTILINE)
    text = _LOCALS.sub(lambda match: match[1][:2].upper() + match[1][-1], text)
    return calls.sub(lambda match: match[1] + short[match[2]], text)


def render_gate(floor: GateFloor, *, jit: bool = False) -> str:
    """What the start script wants in the pod's variable `GATE`, packed: the gate with its values, and what follows it.

    `jit`: for a script without a token. No secret is in it. Pure.
    """
    _, _, gate = _parted(_source("gate.sh"), _SETTINGS_BEGIN, _SETTINGS_END)
    values = {
        "count": floor.count,
        "gpu": floor.gpu,
        "vram": floor.vram_mib,
        "driver": floor.driver,
        "cuda": floor.cuda,
        "free": floor.free_gb,
    }
    settings = "".join(f"{name}={_quote(value)}\n" for name, value in values.items())
    return _pack("", f"inspect() (\n{settings}{_bare(gate)})\n{_template(jit=jit).later}")


def _source(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _functions(source: str) -> Iterator[tuple[str, str]]:
    for found in re.finditer(_FUNCTION.format("([a-z_]+)"), source, flags=re.MULTILINE):
        yield found[1], found[0]


def _letters() -> Iterator[str]:
    for length in itertools.count(1):
        yield from map("".join, itertools.product(ascii_lowercase, repeat=length))


def _settings(script: RunnerScript, names: Mapping[str, str]) -> str:
    values: dict[str, object] = {
        # Nothing that is looked for in command lines may be empty; without a token it is no secret.
        "rp_token": script.token or hashlib.sha256(script.name.encode()).hexdigest(),
        "rp_download": script.download.url,
        "rp_sha256": script.download.sha256.lower(),
        "rp_run_as": script.run_as,
        "rp_idle": script.idle_seconds,
        "rp_lifetime": script.lifetime_seconds,
        "rp_register": script.register_seconds,
        "rp_volume": script.volume_mount and check_mount("volume mount", script.volume_mount),
        "rp_owner": script.owner.lower(),
        "rp_repository": (script.repository or "").lower(),
        "rp_run": script.run_id,
        "rp_graphql": script.graphql_url,
        "rp_rest": script.rest_url.rstrip("/"),
        "rp_private": script.host_private_key,
        "rp_linger": script.linger_seconds,
        "rp_speed": script.gate.download_mbps * _BYTES_PER_MEGABIT or "",
    }
    options = ["--name", script.name, "--url", script.url, "--labels", ",".join(script.labels)]
    options += ["--runnergroup", script.runner_group] if script.runner_group else []
    assignments = "".join(f"{names[name]}={_quote(value)}\n" for name, value in values.items())
    exports = "".join(f" {name}={_quote(value)}" for name, value in script.job_env.items())
    config = f"{names['rp_config']}=({shlex.join(options)})\n"
    return f"{assignments}{config}{names['rp_export']}() {{ export HOME{exports}; }}\n"


def _quote(value: object) -> str:
    return "" if value is None or value == "" else shlex.quote(str(value))


def _pack(settings: str, template: str) -> str:
    # A block of its own for the settings: random characters and a program want different codes.
    squeeze = zlib.compressobj(level=9, wbits=_GZIP, memLevel=9)
    parts = (squeeze.compress(settings.encode()), squeeze.flush(zlib.Z_BLOCK), squeeze.compress(template.encode()))
    return base64.b64encode(b"".join(parts) + squeeze.flush()).decode()


def _command(blob: str, mark: str, key: str) -> str:
    # The mark is how the script recognises this very command in a command line: packed, the token does not show.
    # A pipe that nobody closes is a sleep that needs no program.
    return (
        f": {mark};umask 077;set -C -o pipefail;for d in {_PLACES};do f=$d/.rp$$;"
        f"if {{ {{ printf 'unset ${{!_@}};{key}=%q\\n' \"$RUNPOD_API_KEY\";"
        f"printf %s {blob}|base64 -d|gzip -dc;}}>$f;}} 2>/dev/null;"
        "then unset RUNPOD_API_KEY;exec $BASH -p $f;fi;rm -f $f;done;"
        f"echo '{_CANNOT}';while :;do read -rt 9999 <> <(:);done"
    )


def _check(script: RunnerScript) -> None:
    for address in (script.url, script.download.url, script.graphql_url, script.rest_url):
        parts = urlsplit(address)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise InvalidRequest(f"'{address}' is no https address (plain http is for loopback only)")
    if script.token is not None and len(script.token) < _SHORTEST_TOKEN:
        raise InvalidRequest("the registration token is too short to be one")
    if not re.fullmatch(r"[0-9a-fA-F]{64}", script.download.sha256):
        raise InvalidRequest("the runner's sha256 is not 64 hexadecimal digits")
    check_variables("the job's variable", script.job_env)


def _longest(script: RunnerScript) -> str:
    lengths = {
        "the job's environment": sum(len(name) + len(value) for name, value in script.job_env.items()),
        "the labels": len(",".join(script.labels)),
        "the runner group's name": len(script.runner_group or ""),
        "the download's address": len(script.download.url),
    }
    return max(lengths, key=lengths.__getitem__)
