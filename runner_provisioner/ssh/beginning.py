"""Starting a command in a pod that booted bare: what is asked there, what is sent, and what makes it happen once.

What is to run comes over standard input into a file that only root can read and that empties itself before anything
else. A process that is apart from the connection then makes a mark, the hard link `begun`, which exactly one process
can make, and becomes the command. So a connection may break at any moment: before that, nothing has begun and all is
sent again; after it, nothing begins a second time.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from runner_provisioner.domain.bare import Inside, Stage
from runner_provisioner.domain.gate import REPORT_PATH, PodReport
from runner_provisioner.errors import ProtocolViolation
from runner_provisioner.ssh.commands import MARK
from runner_provisioner.ssh.inside import PLACES, as_root, checked_id

KEYS = "PUBLIC_KEY"
"""The variable with the user's own keys: they are let in, and are no variable of the command."""
_WHOLE = "# whole"
# The process that the mark names is known again by the time it began (proc_pid_stat(5), field 22).
_LOOK = """\
for d in {places}; do
b="$d/runner-provisioner-{pod_id}"; [ -f "$b/begun" ] && break; b=
done
[ "$b" ] || {{ echo bare; exit 0; }}
read -r p t <"$b/begun"
s=$(cat "/proc/$p/stat" 2>/dev/null) && set -- ${{s##*) }}
[ "$t" = "${{20-}}" ] && echo begun || echo over
head -c 4096 {report} 2>/dev/null
"""
# Its folder is that of bootstrap/start.sh, settle(): the job's user passes through it.
_TAKE = """\
for d in {places}; do
b="$d/runner-provisioner-{pod_id}"; mkdir -p "$b" 2>/dev/null && break; b=
done
[ "$b" ] || exit 1
[ ! -e "$b/begun" ] || exit 0
f="$b/given.$$"
trap 'rm -f "$f"' EXIT
umask 077
cat >"$f" && [ "$(tail -n 1 "$f")" = "{whole}" ] || exit 1
trap - EXIT
setsid bash "$f" "$b" </dev/null >>"$b/output" 2>&1 &
"""
# bash has read the whole group before it empties the file.
_GIVEN = """\
{{
: >"$0"
rm -f "$0"
b=$1
unset {mark} SSH_CLIENT SSH_CONNECTION SSH_TTY SSH_ORIGINAL_COMMAND
read -r s </proc/$$/stat
set -- ${{s##*) }}
printf '%s %s\n' $$ "${{20}}" >"$b/begun.$$"
ln "$b/begun.$$" "$b/begun" || {{ rm -f "$b/begun.$$"; exit; }}
rm -f "$b/begun.$$"
umask 022
{keys}{exports}export RUNPOD_POD_ID={pod_id}
cd /
{command}
exit
}}
{whole}
"""
_LET_IN = """\
(umask 077; mkdir -p ~/.ssh; printf '%s\n' {keys} >>~/.ssh/authorized_keys)
"""


def look_command(pod_id: str) -> str:
    """A command whose output `inside` reads."""
    return as_root(_LOOK.format(pod_id=checked_id(pod_id), places=PLACES, report=REPORT_PATH))


def take_command(pod_id: str) -> str:
    """A command that starts what `given` made and it reads; nothing, when its input is not whole."""
    return as_root(_TAKE.format(pod_id=checked_id(pod_id), places=PLACES, whole=_WHOLE))


def given(pod_id: str, command: str, env: Mapping[str, str]) -> str:
    """What to send to `take_command`."""
    keys = env.get(KEYS, "").splitlines()
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in env.items() if name != KEYS)
    return _GIVEN.format(
        mark=MARK,
        keys=_LET_IN.format(keys=shlex.join(keys)) if keys else "",
        exports=exports,
        pod_id=checked_id(pod_id),
        command=command,
        whole=_WHOLE,
    )


def inside(text: str) -> Inside:
    """Read what `look_command` printed. Raises ProtocolViolation where that is nothing of the kind."""
    word, _, rest = text.partition("\n")
    if word not in {Stage.BARE, Stage.BEGUN, Stage.OVER}:
        raise ProtocolViolation("the pod did not say whether anything has begun in it: asking again", service="ssh")
    return Inside(stage=Stage(word), report=PodReport.parse(rest.strip()))
