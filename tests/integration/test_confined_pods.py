"""Confined pods: what they can do, and above all what they cannot do to the machine they run on."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

from runner_provisioner.simulators.pods.confined import ConfinedHost
from runner_provisioner.simulators.pods.host import Image, Launch, PodsUnavailable, best_host
from runner_provisioner.simulators.pods.probe import attempt, unfit
from runner_provisioner.simulators.pods.process import ProcessContainer

PROJECT = Path(__file__).resolve().parents[2]
IMAGE = Image(name="runpod/test")


def why_not(*, in_memory: bool) -> str:
    """Why this machine cannot confine pods, found by trying; empty when it can."""
    reason = unfit()
    if reason:
        return reason
    with tempfile.TemporaryDirectory() as folder:
        return attempt(ConfinedHost(Path(folder), in_memory=in_memory))


# In a container the disk is often an overlay itself, which cannot carry another one's upper layer.
NO_DISK = why_not(in_memory=False)
REASON = NO_DISK and why_not(in_memory=True)
pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(REASON), reason=f"pods cannot be confined here: {REASON}")]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfinedHost]:
    """A host for the module; its pods go when the module ends."""
    confined = ConfinedHost(tmp_path_factory.mktemp("scratch"), in_memory=bool(NO_DISK))
    yield confined
    confined.close()


def order(tmp_path: Path, *argv: str, image: Image = IMAGE, pod_id: str = "pod1", **more: object) -> Launch:
    """A launch of this command."""
    values: dict[str, object] = {"env": {}, "log": tmp_path / "log", **more}
    return Launch(pod_id=pod_id, image=image, argv=argv, **values)  # type: ignore[arg-type]


def bash(tmp_path: Path, script: str, *arguments: str, **more: object) -> Launch:
    """A launch of this bash script."""
    return order(tmp_path, "bash", "-c", script, "bash", *arguments, **more)  # type: ignore[arg-type]


async def output(host: ConfinedHost, launch: Launch, status: int = 0) -> str:
    """What the pod printed, once it ended."""
    container = await host.launch(launch)
    with anyio.fail_after(60):
        ended = await container.wait()
    host.discard(launch.pod_id)
    text = launch.log.read_text()
    assert ended == status, text
    return text


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that another process brings about."""
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - no event reaches this process
            await anyio.sleep(0.01)


async def logged(launch: Launch, word: str) -> None:
    """Wait until the pod printed this."""
    await until(lambda: launch.log.exists() and word in launch.log.read_text())


def tree(*tops: str) -> dict[str, tuple[int, ...]]:
    """Every file below: mode, owner, group, size and time of change."""
    facts: dict[str, tuple[int, ...]] = {}
    for top in tops:
        for where, folders, files in os.walk(top):
            folders[:] = [name for name in folders if name not in {".cache", ".pyenv", "__pycache__", "pts", "shm"}]
            for name in (*folders, *files):
                path = Path(where, name)
                try:
                    seen = path.lstat()
                except FileNotFoundError:
                    continue
                changed = 0 if stat.S_ISCHR(seen.st_mode) else seen.st_mtime_ns
                facts[str(path)] = (seen.st_mode, seen.st_uid, seen.st_gid, seen.st_size, changed)
    return facts


def mounts() -> str:
    """The mounts of this machine."""
    return Path("/proc/self/mountinfo").read_text()


def namespaces() -> set[str]:
    """The PID and mount namespaces of this process."""
    return {str(Path("/proc/self/ns", kind).readlink()) for kind in ("pid", "mnt")}


def mentions(word: str) -> list[str]:
    """Command lines of this machine that hold the word."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue
        if word.encode() in line:
            found.append(line.decode(errors="replace"))
    return found


def leftovers(folder: Path) -> list[str]:
    """What lies in the folder."""
    return [path.name for path in folder.iterdir()]


def alive(word: str) -> list[int]:
    """Processes of this machine with the word in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


async def test_the_command_is_the_first_process_with_exactly_the_given_environment(
    host: ConfinedHost, tmp_path: Path
) -> None:
    """PID 1, in /, with Launch.env and three defaults, nothing of the host's."""
    script = "echo $$; pwd; exec env -0"
    text = await output(host, bash(tmp_path, script, env={"RUNPOD_POD_ID": "pod1", "PATH": "/usr/bin:/bin"}))
    first, where, rest = text.split("\n", 2)
    variables = dict(pair.split("=", 1) for pair in rest.split("\0") if pair)
    assert (first, where) == ("1", "/")
    for name in ("_", "SHLVL", "PWD", "OLDPWD"):
        variables.pop(name, None)
    assert variables == {"RUNPOD_POD_ID": "pod1", "PATH": "/usr/bin:/bin", "HOME": "/root", "HOSTNAME": "pod1"}


async def test_the_command_line_is_passed_on_unchanged(host: ConfinedHost, tmp_path: Path) -> None:
    """Spaces, quotes, empty words and line feeds survive."""
    words = ["a b", "'\"", "", "x\ny", "é"]
    text = await output(host, order(tmp_path, "printf", "%s|", *words))
    assert text == "a b|'\"||x\ny|é|"


async def test_a_command_that_does_not_exist_ends_the_container_with_127(host: ConfinedHost, tmp_path: Path) -> None:
    """As docker would: a line in the log, and a container that exited."""
    assert "no-such-program" in await output(host, order(tmp_path, "no-such-program"), status=127)


@pytest.mark.parametrize(
    ("script", "status"), [("exit 7", 7), ("kill -9 $BASHPID", 0), ("exit 0", 0)], ids=["code", "pid1", "zero"]
)
async def test_the_exit_status_is_that_of_the_first_process(
    host: ConfinedHost, tmp_path: Path, script: str, status: int
) -> None:
    """PID 1 cannot be killed from inside; its own exit code is told."""
    await output(host, bash(tmp_path, script), status=status)


ATTACKS = r"""
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
victim=$1 project=$2 marker=$3 scratch=$4
try() { local name=$1; shift; if "$@" >/dev/null 2>&1; then echo "DONE $name"; else echo "refused $name"; fi; }
opens() { bash -c ': >>"$1"' bash "$1"; }
echo id "$(id -u)"; readlink /proc/self/ns/pid /proc/self/ns/mnt
for place in /etc /usr/local /usr/bin /root /home /opt /var; do echo mine >$place/pod-was-here; done
chmod 0 /dev/null /dev/tty /proc/self/fd/0; chown 1 /proc/self/fd/0; chmod 666 /dev/null
rm -f /etc/hostname /usr/bin/id; chmod 0 /etc/fstab; chown 1 /usr/local/bin
[ -e /etc/pod-was-here ] && echo "wrote in its own overlay"
try mknod-block mknod /tmp/disk b 254 0
try mknod-in-dev mknod /dev/disk b 254 0
try mknod-char mknod /opt/mem c 1 1
try mount-tmpfs mount -t tmpfs none /mnt
try mount-proc mount -t proc proc /mnt
try mount-bind mount --bind /etc /mnt
try remount-sys mount -o remount,rw /sys
try remount-procsys mount -o remount,bind,rw /proc/sys
try umount-root umount /root
try umount-lazy umount -l /work
try unshare-mount unshare -m true
try unshare-user unshare -U true
try unshare-user-root unshare -Urm true
try unshare-net unshare -n true
try nsenter nsenter -t 1 -m true
try core-pattern opens /proc/sys/kernel/core_pattern
try sysctl opens /proc/sys/kernel/hostname
for file in /proc/sysrq-trigger /proc/irq/default_smp_affinity; do [ -e "$file" ] && try "$file" opens "$file"; done
find /sys -type f -perm -u=w 2>/dev/null | head -n 200 | while read -r file; do
  ( : >>"$file" ) 2>/dev/null && echo "DONE $file"
done
[ -s /proc/kcore ] && try kcore head -c 1 /proc/kcore
try reboot reboot -f
try date-set date -s 2001-01-01
try dmesg-clear dmesg -C
try kill-host kill -9 "$victim"
try kill-host-group kill -9 -- "-$victim"
try ptrace cat "/proc/$victim/environ"
try hashes grep -E '^[^:]+:[$]' /etc/shadow
try old-hashes cat /etc/shadow-
try host-keys cat /etc/ssh/ssh_host_ed25519_key
try marker cat "/root/$marker"
try marker-home cat "/home/$marker"
try marker-proc-root cat "/proc/1/root/root/$marker"
try marker-self-cwd cat "/proc/self/cwd/root/$marker"
try checkout ls "$project/pyproject.toml"
try other-scratch ls "$scratch"
try ssl-private ls -A /etc/ssl/private/ssl-cert-snakeoil.key
try docker-socket ls /run/docker.sock /var/run/docker.sock
echo "fds $(ls /proc/$$/fd | tr '\n' ' ')"
perl -e '
  mkdir "/tmp/jail"; chroot "/tmp/jail" or exit 1;
  chdir ".." for 1..64; chroot "." or exit 1;
  exit(-e "/root/$ARGV[0]" || -e "/etc/shadow-" ? 0 : 1)' "$marker" && echo "DONE chroot-escape"
perl -e 'exit(syscall(155, ".", ".") == 0 ? 0 : 1)' 2>/dev/null && echo "DONE pivot-root"
perl -e 'exit(syscall(56, 0x10000000|17, 0, 0, 0, 0) >= 0 ? 0 : 1)' 2>/dev/null && echo "DONE clone-newuser"
perl -e 'exit(syscall(304, -100, 0, 0) >= 0 || $! != 1 ? 0 : 1)' && echo "DONE open-by-handle"
grep -rlsF "$marker" /etc /opt /srv /var/lib /var/spool /mnt /home /root && echo "DONE found-marker"
useradd -m pod-user && echo "has $(ls -d /home/pod-user)"
echo finished
"""


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the machine's, in a session of its own."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        yield process
        process.kill()


@pytest.fixture
def marker() -> Iterator[str]:
    """A name and content planted where people and services keep secrets."""
    name = f"pod-marker-{os.getpid()}"
    planted = [Path(folder, name) for folder in ("/root", "/home", "/etc/ssl/private") if Path(folder).is_dir()]
    for path in planted:
        path.write_text(name)
    yield name
    for path in planted:
        path.unlink()


@pytest.mark.full
@pytest.mark.usefixtures("machine_alone")
async def test_root_in_a_pod_changes_nothing_on_the_machine_and_reads_no_secret(
    host: ConfinedHost, tmp_path: Path, victim: subprocess.Popen[bytes], marker: str
) -> None:
    """Every attempt of root inside is refused or hits the overlay; the machine is the same afterwards."""
    mounted = mounts()
    tops = ("/etc", "/home", "/root", "/usr/local", "/dev")
    before = tree(*tops)
    arguments = (str(victim.pid), str(PROJECT), marker, str(tmp_path.parent))
    text = await output(host, bash(tmp_path, ATTACKS, *arguments, volume_mount="/w"))
    after = tree(*tops)
    assert victim.poll() is None
    assert [line for line in text.splitlines() if line.startswith("DONE")] == []
    assert text.splitlines()[0] == "id 0"
    assert "wrote in its own overlay" in text
    assert "has /home/pod-user" in text
    assert "fds 0 1 2 " in text.replace(" 255 ", " ")
    assert text.endswith("finished\n")
    assert {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)} == set()
    own = {line for line in text.splitlines() if line.startswith(("pid:[", "mnt:["))}
    assert len(own) == 2
    assert not own & namespaces()
    assert mentions(marker) == []
    assert mounts() == mounted


async def test_capabilities_are_cut_in_every_set(host: ConfinedHost, tmp_path: Path) -> None:
    """Effective, permitted and bounding hold the eleven of the plan, inheritable and ambient none; a filter is on."""
    text = await output(host, order(tmp_path, "cat", "/proc/self/status"))
    status = dict(line.split(":\t", 1) for line in text.splitlines())
    kept = sum(1 << number for number in (0, 1, 3, 4, 5, 6, 7, 10, 18, 29, 31))
    assert [int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")] == [kept] * 3
    assert [int(status[name], 16) for name in ("CapInh", "CapAmb")] == [0, 0]
    assert status["Seccomp"] == "2"


async def test_an_image_whose_user_is_nobody_has_no_privilege(host: ConfinedHost, tmp_path: Path) -> None:
    """Another uid, no effective capability, and no way to write outside /tmp."""
    image = Image(name="unprivileged", user="nobody")
    text = await output(
        host, bash(tmp_path, "id -u; grep CapEff /proc/self/status; touch /etc/x || echo no", image=image)
    )
    assert text.splitlines()[0] == "65534"
    assert "CapEff:\t0000000000000000" in text
    assert text.splitlines()[-1] == "no"


async def test_hidden_programs_do_not_exist(host: ConfinedHost, tmp_path: Path) -> None:
    """By name and by pattern, in every folder of PATH; the machine keeps them."""
    image = Image(name="bare", hide=("curl", "wget", "python3*", "openssl"), nvidia_smi=False)
    script = "for name in curl wget python3 openssl nvidia-smi tar; do command -v $name || echo no $name; done"
    text = await output(host, bash(tmp_path, script, image=image))
    assert [line for line in text.splitlines() if line.startswith("no")] == [
        f"no {name}" for name in ("curl", "wget", "python3", "openssl", "nvidia-smi")
    ]
    assert "tar" in text
    assert shutil.which("openssl")


async def test_the_gpu_tool_prints_what_was_rented(host: ConfinedHost, tmp_path: Path) -> None:
    """The stand-in names model and count, and says that it is simulated."""
    script = "nvidia-smi -L; nvidia-smi --query-gpu=name,memory.total --format=csv,noheader,nounits; nvidia-smi"
    text = await output(host, bash(tmp_path, script, gpu="NVIDIA A100", gpu_count=2))
    assert text.splitlines()[:4] == [
        "GPU 0: NVIDIA A100 (UUID: GPU-simulated-0)",
        "GPU 1: NVIDIA A100 (UUID: GPU-simulated-1)",
        "NVIDIA A100, 16376",
        "NVIDIA A100, 16376",
    ]
    assert "simulated" in text.splitlines()[4]


async def test_an_image_without_start_sh_has_none(host: ConfinedHost, tmp_path: Path) -> None:
    """`start_sh=False` is an image that is not RunPod's."""
    image = Image(name="other", start_sh=False)
    await output(host, order(tmp_path, "test", "!", "-e", "/start.sh", image=image))


async def test_start_sh_leaves_its_environment_where_everybody_can_read_it(host: ConfinedHost, tmp_path: Path) -> None:
    """As RunPod's does: what it is started with must hold no secret."""
    written = "/etc/rp_environment"
    script = f"/start.sh & until [ -s {written} ]; do sleep 0.01; done; sleep 0.1; stat -c %a {written}; cat {written}"
    text = await output(host, bash(tmp_path, script, env={"PLANTED": "value with space"}))
    assert "644" in text.splitlines()
    assert 'declare -x PLANTED="value with space"' in text


async def test_an_init_in_front_keeps_the_command_in_its_own_command_line(host: ConfinedHost, tmp_path: Path) -> None:
    """The trap that a token in the start command falls into; the init passes TERM and the exit status on."""
    launch = order(
        tmp_path,
        "/sbin/sim-init",
        "bash",
        "-c",
        "trap 'exit 9' TERM; tr '\\0' ' ' </proc/1/cmdline; echo; sleep 60 & wait",
    )
    container = await host.launch(launch)
    await logged(launch, "sim-init bash -c trap")
    await anyio.sleep(0.05)
    await container.stop()
    assert await container.wait() == 9


async def test_stop_gives_the_first_process_time_to_end(host: ConfinedHost, tmp_path: Path) -> None:
    """SIGTERM goes to PID 1 alone, and its own exit counts."""
    launch = bash(
        tmp_path, "trap 'echo got TERM; sleep 0.2; exit 3' TERM; (trap 'echo child' TERM; echo up; sleep 60) & wait"
    )
    container = await host.launch(launch)
    await logged(launch, "up")
    assert container.running()
    await container.stop()
    assert await container.wait() == 3
    assert not container.running()
    assert launch.log.read_text().splitlines() == ["up", "got TERM"]


async def test_stop_kills_everything_after_the_grace(host: ConfinedHost, tmp_path: Path) -> None:
    """A first process that ignores SIGTERM (the default for PID 1) is killed, with all it started."""
    word = f"6{os.getpid()}"
    launch = bash(tmp_path, f"setsid -f sleep {word}; (setsid sleep {word} &); echo up; sleep {word}")
    container = await host.launch(launch)
    await logged(launch, "up")
    started = time.monotonic()
    await container.stop(grace=0.3)
    assert 0.3 <= time.monotonic() - started < 3
    assert await container.wait() == 137
    assert alive(f"sleep\0{word}") == []


async def test_the_end_of_the_first_process_ends_detached_children(host: ConfinedHost, tmp_path: Path) -> None:
    """A double fork with setsid does not survive its pod, and nothing is left in the scratch folder."""
    word = f"7{os.getpid()}"
    await output(host, bash(tmp_path, f"setsid -f sleep {word}; setsid -f bash -c 'setsid -f sleep {word}'; sleep 0.1"))
    assert alive(f"sleep\0{word}") == []
    assert leftovers(host._pods) == []


async def test_a_killed_supervisor_takes_the_pod_with_it(host: ConfinedHost, tmp_path: Path) -> None:
    """Nothing of a pod outlives the process above it; the container counts as killed."""
    word = f"8{os.getpid()}"
    launch = bash(tmp_path, f"setsid -f sleep {word}; echo up; sleep {word}")
    container = await host.launch(launch)
    await logged(launch, "up")
    os.kill(container._supervisor.pid, signal.SIGKILL)
    with anyio.fail_after(10):
        assert await container.wait() == 137
    assert alive(f"sleep\0{word}") == []
    assert leftovers(host._pods) == []


CHILD = """
import sys, anyio
from pathlib import Path
from runner_provisioner.simulators.pods.confined import ConfinedHost
from runner_provisioner.simulators.pods.host import Image, Launch

async def main():
    host = ConfinedHost(Path(sys.argv[1]), in_memory=bool(sys.argv[3]))
    log = Path(sys.argv[1], "log")
    await host.launch(Launch(pod_id="p", image=Image(name="x"), argv=("sleep", sys.argv[2]), env={}, log=log))
    print("up", flush=True)
    await anyio.sleep(60)

anyio.run(main)
"""


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A program that runs a pod, and the word in the pod's command line."""
    word = f"9{os.getpid()}"
    command = [sys.executable, "-c", CHILD, str(tmp_path), word, NO_DISK]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "up\n"
        yield program, word
        program.kill()


async def test_a_killed_simulator_takes_its_pods_with_it(
    tmp_path: Path, simulator: tuple[subprocess.Popen[str], str]
) -> None:
    """SIGKILL to the program that runs the host: no process, no folder and no mount stays."""
    program, word = simulator
    assert len(alive(f"sleep\0{word}")) == 1
    program.kill()
    await until(lambda: not alive(f"sleep\0{word}") and not leftovers(tmp_path / "pods"))
    assert str(tmp_path) not in mounts()


def text_of(path: Path) -> str:
    """The file's text."""
    return path.read_text()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def key_pair(path: Path) -> Path:
    """A fresh one."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A key pair of the user's."""
    return key_pair(tmp_path / "id_ed25519")


needs_sshd = pytest.mark.skipif(not Path("/usr/sbin/sshd").exists(), reason="OpenSSH's server is not installed")


async def reachable(address: tuple[str, int]) -> None:
    """Wait for somebody to listen."""
    with anyio.fail_after(10):
        while True:
            try:
                stream = await anyio.connect_tcp(*address)
            except OSError:
                await anyio.sleep(0.02)
                continue
            await stream.aclose()
            return


async def ssh(address: tuple[str, int], key: Path, command: str, *options: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command in the pod as a user would."""
    quiet = [
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "BatchMode=yes",
        "-F",
        "none",
    ]
    return await anyio.run_process(
        ["ssh", *quiet, *options, "-i", str(key), "-p", str(address[1]), f"root@{address[0]}", command], check=False
    )


@needs_sshd
async def test_sshd_answers_on_the_loopback_port_and_takes_the_public_key(
    host: ConfinedHost, tmp_path: Path, key: Path
) -> None:
    """The image's own command; a shell with a terminal and the pod's environment; only this key is let in."""
    launch = order(
        tmp_path,
        "/start.sh",
        ssh_port=free_port(),
        env={"PUBLIC_KEY": key.with_suffix(".pub").read_text(), "RUNPOD_POD_ID": "pod1"},
    )
    container = await host.launch(launch)
    address = container.address(22)
    assert address == ("127.0.0.1", launch.ssh_port)
    await reachable(address)
    result = await ssh(address, key, "hostname; id -u; ls -A /home; tty", "-tt")
    assert result.stdout.decode().split() == ["pod1", "0", "/dev/pts/0"], result.stderr
    other = key_pair(tmp_path / "other")
    assert (await ssh(address, other, "true")).returncode == 255
    await container.kill()
    assert await container.wait() == 137


@needs_sshd
async def test_a_host_key_that_is_there_already_is_kept(host: ConfinedHost, tmp_path: Path, key: Path) -> None:
    """`start` puts the pod's host key there before /start.sh runs, so that the client knows it beforehand."""
    script = 'umask 077; printf %s "$KEY" >/etc/ssh/ssh_host_ed25519_key; unset KEY; exec /start.sh'
    public = text_of(key.with_suffix(".pub"))
    launch = bash(tmp_path, script, ssh_port=free_port(), env={"PUBLIC_KEY": public, "KEY": text_of(key)})
    container = await host.launch(launch)
    await reachable(("127.0.0.1", launch.ssh_port or 0))
    scan = await anyio.run_process(["ssh-keyscan", "-t", "ed25519", "-p", str(launch.ssh_port), "127.0.0.1"])
    assert public.split()[1] in scan.stdout.decode()
    await container.kill()


@needs_sshd
async def test_sshd_without_a_port_of_its_own_takes_none_of_the_host(host: ConfinedHost, tmp_path: Path) -> None:
    """Started by hand, it has no address that it could bind."""
    text = await output(host, bash(tmp_path, "ssh-keygen -A >/dev/null; /usr/sbin/sshd -D -e"), status=255)
    assert "Cannot bind any address" in text


async def test_ports_are_where_the_container_listens_because_loopback_is_shared(
    host: ConfinedHost, tmp_path: Path
) -> None:
    """Any port but 22 is the same outside; 22 answers nowhere unless a port was given."""
    container = await host.launch(order(tmp_path, "sleep", "60"))
    assert container.address(8888) == ("127.0.0.1", 8888)
    assert container.address(22) is None
    await container.kill()


async def test_the_volume_outlives_the_container_and_not_the_pod(host: ConfinedHost, tmp_path: Path) -> None:
    """What is written to the mount point is there after a stop and start; discard removes it."""
    script = "echo kept >/workspace/file; echo gone >/opt/file; echo up; sleep 60"
    launch = bash(tmp_path, script, volume_mount="/workspace")
    container = await host.launch(launch)
    await logged(launch, "up")
    await container.stop(grace=0)
    text = await output(host, bash(tmp_path, "cat /workspace/file; ls /opt/file", volume_mount="/workspace"), status=2)
    assert "kept" in text
    assert leftovers(host._volumes) == []


@pytest.mark.skipif(bool(NO_DISK), reason=f"disks of pods live in memory here: {NO_DISK}")
async def test_a_restarted_container_finds_its_disk_as_it_left_it(host: ConfinedHost, tmp_path: Path) -> None:
    """As docker has it: everywhere, also where the pod has folders of its own; until it is stopped or discarded."""
    places = "/opt /etc /root /home /tmp /var/lib"
    first = bash(tmp_path, f"for place in {places}; do touch $place/marker; done; useradd u; rm /usr/bin/tac; exit 1")
    container = await host.launch(first)
    assert await container.wait() == 1
    check = f"for place in {places}; do [ -e $place/marker ] || echo lost $place; done; id -u u; which tac; ls /root"
    again = await host.launch(bash(tmp_path, check, ssh_port=2022))
    await again.wait()
    text = first.log.read_text()
    assert "lost" not in text
    assert "no such user" not in text
    assert "tac" not in text
    await again.stop()
    assert leftovers(host._pods) == []
    assert "marker" not in await output(
        host, bash(tmp_path, "ls /root; rm -f /dev/null; which tac", log=tmp_path / "new")
    )


async def test_a_pod_sees_neither_the_files_nor_the_processes_of_another(host: ConfinedHost, tmp_path: Path) -> None:
    """Two pods at once: separate trees, process tables, names and shared memory."""
    first = bash(tmp_path, "echo secret >/etc/first; echo x >/dev/shm/first; echo up; sleep 60", pod_id="first")
    one = await host.launch(first)
    await logged(first, "up")
    second = order(tmp_path, "bash", "-c", "ls /etc/first /dev/shm/first; ps ax | wc -l; hostname", pod_id="second")
    text = await output(host, Launch(**{**second.__dict__, "log": tmp_path / "second"}))
    assert "cannot access '/etc/first'" in text
    assert "cannot access '/dev/shm/first'" in text
    assert text.splitlines()[-1] == "second"
    assert int(text.splitlines()[-2]) <= 5
    await one.kill()


async def test_the_log_is_a_pipe_inside_and_private_outside(host: ConfinedHost, tmp_path: Path) -> None:
    """Root in the pod cannot turn the log into a set-uid program of the host's."""
    launch = bash(tmp_path, "readlink /proc/self/fd/1; chmod 4755 /proc/self/fd/1 2>/dev/null; echo end >&2")
    text = await output(host, launch)
    assert text.startswith("pipe:")
    assert text.endswith("end\n")
    assert tree(str(tmp_path))[str(launch.log)][0] & 0o7111 == 0


@pytest.mark.full
@pytest.mark.usefixtures("machine_alone")
async def test_a_pod_is_up_in_a_fraction_of_a_second_and_ten_at_once_in_half_a_one(
    host: ConfinedHost, tmp_path: Path
) -> None:
    """0.2 s and 0.5 s on an idle two-core machine; what is refused here is another order of magnitude."""
    containers: list[ProcessContainer] = []

    async def start(number: int) -> None:
        launch = Launch(pod_id=f"pod{number}", image=IMAGE, argv=("sleep", "60"), env={}, log=tmp_path / f"log{number}")
        containers.append(await host.launch(launch))

    began = time.monotonic()
    await start(0)
    single = time.monotonic() - began
    began = time.monotonic()
    async with anyio.create_task_group() as group:
        for number in range(1, 11):
            group.start_soon(start, number)
    ten = time.monotonic() - began
    async with anyio.create_task_group() as group:
        for container in containers:
            group.start_soon(container.kill)
    assert len(containers) == 11
    assert single < 2
    assert ten < 5


async def test_what_pods_write_can_stay_in_memory(tmp_path: Path) -> None:
    """For disks that cannot carry an overlay's upper layer (an overlay itself, in a container)."""
    host = ConfinedHost(tmp_path / "scratch", in_memory=True)
    assert "kept" in await output(host, bash(tmp_path, "echo kept >/etc/x; cat /etc/x"))
    host.close()
    assert not (tmp_path / "scratch/pods").exists()


async def test_a_pod_that_cannot_be_set_up_says_why(tmp_path: Path) -> None:
    """Here: a folder for the volume that is a file. Nothing is left of the attempt."""
    host = ConfinedHost(tmp_path / "scratch", in_memory=bool(NO_DISK))
    with pytest.raises(PodsUnavailable, match="could not be set up"):
        await host.launch(order(tmp_path, "true", volume_mount="/etc/passwd"))
    assert leftovers(host._pods) == []
    host.close()


async def test_a_cancelled_launch_leaves_nothing(host: ConfinedHost, tmp_path: Path) -> None:
    """The caller gave up before the pod was up: it is killed."""
    with anyio.move_on_after(0.001) as scope:
        await host.launch(order(tmp_path, "sleep", "60", pod_id="cancelled"))
    assert scope.cancelled_caught
    await until(lambda: not leftovers(host._pods))


async def test_close_ends_what_still_runs(tmp_path: Path) -> None:
    """Blocking, for callers without an event loop; the waiters hear of it."""
    host = best_host(tmp_path / "scratch", unconfined_ok=False)
    assert host.mode == "confined"
    container = await host.launch(order(tmp_path, "sleep", "60"))
    await anyio.to_thread.run_sync(host.close)
    assert await container.wait() == 137
    await container.stop()
