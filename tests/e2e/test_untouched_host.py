"""A job that does its worst leaves the machine as it was."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

import pytest
from support.e2e import Stage

TOPS = ("/etc", "/home", "/root", "/usr/local")
BUSY = frozenset({".cache", ".pyenv", "__pycache__"})  # other programs of this machine write there
pytestmark = [pytest.mark.root, pytest.mark.usefixtures("confined")]

# Each line is an attempt; one that gets through says so. What is asked of the kernel would do no harm if it were done.
ATTACK = """\
set +e
MARK=@MARK@
try() { if (eval "$2") >/dev/null 2>&1; then echo "$1: GOT THROUGH"; else echo "$1: refused"; fi; }
for folder in /etc /home /root /usr/local /usr/local/bin /usr/bin / /etc/cron.d /root/.ssh; do
  mkdir -p "$folder"; echo "$MARK" >"$folder/$MARK"; chmod 4777 "$folder/$MARK"
done 2>/dev/null
for file in /etc/passwd /etc/hosts /etc/ld.so.preload /root/.bashrc /etc/sudoers; do
  echo "# $MARK" >>"$file"
done 2>/dev/null
try 'block device' 'mknod "$PWD/disk" b 8 0 && head -c 1 "$PWD/disk"'
try 'character device' 'mknod "$PWD/kmsg" c 1 11 && head -c 1 "$PWD/kmsg"'
try 'mount' 'mkdir -p "$PWD/m" && mount -t tmpfs none "$PWD/m"'
try 'mount proc anew' 'mkdir -p "$PWD/p" && mount -t proc proc "$PWD/p"'
try 'bind mount' 'mount --bind /etc /usr/local'
try 'umount' 'umount /proc/sys || umount -l /etc/shadow || umount /tmp'
try 'remount' 'mount -o remount,rw /proc/sys || mount -o remount,bind,rw /sys'
try '/proc/sys' 'cat /proc/sys/vm/swappiness | tee /proc/sys/vm/swappiness'
try 'core pattern' 'cat /proc/sys/kernel/core_pattern | tee /proc/sys/kernel/core_pattern'
try '/sys' 'echo 0 >/sys/kernel/profiling || mkdir /sys/fs/cgroup/@MARK@'
try 'sysrq' 'echo h >/proc/sysrq-trigger'
try 'kcore' '[ -s /proc/kcore ] && head -c 1 /proc/kcore | grep -q .'
try 'host hashes' 'grep -E "^[^:]+:[$]" /etc/shadow'
try 'secret file' 'cat "@SECRET@"'
try 'secret file by process' 'cat /proc/[0-9]*/root"@SECRET@"'
try 'namespaces of the host' 'nsenter -t 1 -m -p -- cat "@SECRET@"'
try 'new namespaces' 'unshare -m true || unshare -Ur true'
try 'out of the chroot' 'mkdir -p o && exec 9</ && chroot o /bin/true || cat /proc/self/fd/9/../../../"@SECRET@"'
try 'process of the host' 'kill -0 @PID@ && grep -q pytest /proc/@PID@/cmdline'
try 'module' 'modprobe dummy || insmod /dev/null'
try 'clock' 'date -s "$(date)"'
try 'host name' 'hostname @MARK@ || echo @MARK@ >/proc/sys/kernel/hostname'
setsid nohup sleep 98765 "$MARK" >/dev/null 2>&1 </dev/null &
(setsid nohup bash -c "exec -a $MARK sleep 98765" >/dev/null 2>&1 </dev/null &)
echo 'all tried'
"""
# Root in the pod may do this to the pod.
AS_USER = """\
try 'memory of the start script' 'head -c 1 /proc/1/mem'
try 'environment of the start script' 'cat /proc/1/environ'
try 'state of the start script' 'ls /opt/runner-provisioner-*/state'
try 'sudo' 'sudo -n true'
"""


def files() -> dict[str, tuple[int, ...]]:
    """Every file of the machine that a pod could want to change: its mode, owner, size and last change."""
    seen: dict[str, tuple[int, ...]] = {}
    for top in TOPS:
        for where, folders, names in os.walk(top):
            folders[:] = [name for name in folders if name not in BUSY]
            for name in (*folders, *names):
                path = os.path.join(where, name)  # noqa: PTH118 - some ten thousand of them
                try:
                    facts = os.lstat(path)
                except FileNotFoundError:
                    continue
                size = 0 if stat.S_ISDIR(facts.st_mode) else facts.st_size
                seen[path] = (facts.st_mode, facts.st_uid, facts.st_gid, size, facts.st_mtime_ns)
    return seen


def processes(mark: str) -> list[str]:
    """Processes of this machine whose command line or environment has the mark."""
    hits = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            continue
        if mark.encode() in text:
            hits.append(text.decode(errors="replace"))
    return hits


@pytest.mark.full
@pytest.mark.usefixtures("machine_alone")
@pytest.mark.parametrize(
    ("run_as", "more"), [pytest.param("root", "", id="root"), pytest.param("user", AS_USER, id="user")]
)
def test_a_hostile_job_changes_nothing_of_the_machine(stage: Stage, run_as: str, more: str) -> None:
    """Files, processes, kernel settings, name: as before; every attempt on the kernel or the host was refused."""
    mark = f"mark{secrets.token_hex(6)}"
    secret = stage.folder / "secret"
    secret.write_text("of the host")
    hostname = Path("/proc/sys/kernel/hostname").read_text()
    before = files()
    attack = ATTACK.replace("echo 'all tried'", more + "echo 'all tried'")
    tries = attack.count("\ntry '")
    attack = attack.replace("@MARK@", mark).replace("@SECRET@", str(secret)).replace("@PID@", str(os.getpid()))
    run_id = stage.queue(attack)
    place = stage.job(run_id)
    written = place.start("--run-as", run_as)
    place.provide(written["label"])
    conclusion = stage.job_ended(run_id)
    log = stage.world.github.job_log(run_id, "gpu")
    assert "all tried" in log, (conclusion, log)
    assert [line for line in log.splitlines() if line.endswith(": GOT THROUGH")] == []
    assert log.count(": refused\n") == tries, log
    place.call("stop").well()
    stage.gone(pods=1)
    after = files()
    assert {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)} == set()
    assert processes(mark) == []
    assert Path("/proc/sys/kernel/hostname").read_text() == hostname
