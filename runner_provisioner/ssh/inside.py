"""What lies in a pod that runs our start script: its logs, and how far it has come."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field

from runner_provisioner.domain.gate import REPORT_PATH, PodReport
from runner_provisioner.errors import NotFound, ProtocolViolation
from runner_provisioner.ssh.commands import MARK

NOTHING_OF_OURS = 44
_POD_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
# The places of bootstrap/start.sh, settle().
PLACES = '/opt /var/lib "${HOME:-/tmp}" /var/tmp /tmp'
_FIND = """\
for d in {places}; do
b="$d/runner-provisioner-{pod_id}"; [ -d "$b/state" ] && break; b=
done
[ "$b" ] || exit {nothing}
"""
_FACTS = """\
cd "$b/state" || exit 1
for f in began registered job; do [ ! -e $f ] || echo "mark $f"; done
for f in began completed refused; do [ ! -e ../job/$f ] || echo "job $f"; done
for f in ../report.json {report}; do
[ ! -f $f ] || {{ printf 'report '; head -c 4096 $f | tr -d '\\n\\r'; echo; break; }}
done
for f in ./*.json; do
[ ! -f "$f" ] || {{ printf 'json %s ' "${{f#./}}"; head -c 65536 "$f" | tr -d '\\n\\r'; echo; }}
done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """How far the pod's script has come, in its own words, what it reports, and the JSON files it wrote, by name."""

    phase: str
    report: PodReport | None = None
    files: dict[str, object] = field(default_factory=dict)


def log_command(pod_id: str, *, skip: int = 0, follow: bool = False, diagnostics: bool = False) -> str:
    """A command that prints the start script's log, which holds the runner's lines too, from byte `skip` on.

    With `diagnostics` the runner's own log files (`_diag`) follow. It ends with NOTHING_OF_OURS where no start script
    of ours ran.
    """
    mode = "-F " if follow else ""
    tail = f'exec tail -c +{skip + 1} {mode}"$b/state/log"'
    if diagnostics:
        tail = f'exec tail -n +1 {mode}"$b/state/log" "$b"/runner/_diag/*.log'
    return _in_pod(pod_id, f"{tail} 2>/dev/null")


def facts_command(pod_id: str) -> str:
    """A command whose output `facts` reads."""
    return _in_pod(pod_id, _FACTS.format(report=REPORT_PATH))


def waits_command(pod_id: str) -> str:
    """A command that succeeds when the start script waits for its runner's configuration."""
    return _in_pod(pod_id, '[ -p "$b/state/jit" ]')


def give_command(pod_id: str) -> str:
    """A command that passes its input on to the start script, and fails rather than make a file of it."""
    return _in_pod(pod_id, '[ -p "$b/state/jit" ] && exec dd of="$b/state/jit" conv=nocreat,notrunc 2>/dev/null')


def facts(text: str) -> Facts:
    """Read what `facts_command` printed; lines that make no sense are passed over."""
    marks, files, report = set(), {}, None
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "json":
            name, _, content = rest.partition(" ")
            files[name] = _json(content)
        elif kind == "report":
            report = PodReport.parse(rest)
        elif kind in {"mark", "job"}:
            marks.add(f"{kind} {rest}")
    return Facts(phase=_phase(marks), report=report, files=files)


def nothing_of_ours(pod_id: str) -> NotFound:
    """The pod was not started by us, or has not come so far."""
    return NotFound(
        f"pod {pod_id} holds no log of a start script of ours: it may boot still, or was made by hand; its container "
        "log is in the provider's console"
    )


_PHASES = (
    ("job refused", "job refused"),
    ("job completed", "job over"),
    ("job began", "job runs"),
    ("mark job", "job runs"),
    ("mark registered", "listening"),
    ("mark began", "registering"),
)


def _phase(marks: set[str]) -> str:
    return next((phase for mark, phase in _PHASES if mark in marks), "preparing")


def _json(text: str) -> object:
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found


def _in_pod(pod_id: str, script: str) -> str:
    find = _FIND.format(pod_id=checked_id(pod_id), nothing=NOTHING_OF_OURS, places=PLACES)
    return as_root(find + script)


def checked_id(pod_id: str) -> str:
    """An id that may stand in a path. Raises ProtocolViolation."""
    if not _POD_ID.fullmatch(pod_id):
        raise ProtocolViolation(f"the provider's pod id {pod_id[:64]!r} is none: not asking that pod")
    return pod_id


def as_root(script: str) -> str:
    """A command that runs this as root where the login is another user's who may; HOME and the mark stay."""
    shell = f"sh -c {shlex.quote(script)}"
    as_other = f'exec sudo -n env HOME="$HOME" {MARK}="${MARK}" {shell}'
    return f'if [ "$(id -u)" != 0 ] && sudo -n true 2>/dev/null; then {as_other}; fi; exec {shell}'
