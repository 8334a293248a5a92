"""The files that a simulated image consists of, beyond what the machine's own /usr offers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner_provisioner.simulators.pods.host import Launch

# Contract of RunPod's images (reference: containers): sshd when PUBLIC_KEY is set, the environment into a file that
# everybody can read, then nothing for ever. As the command of a container it ignores SIGTERM, as the real one does.
START_SH = """\
#!/bin/bash
# Simulated: what /start.sh of RunPod's images does, without nginx and Jupyter.
echo "start.sh: simulated image, pod ${RUNPOD_POD_ID:-unknown}"
if [ -n "${PUBLIC_KEY:-}" ] && [ -x "@SSHD@" ]; then
  mkdir -p /root/.ssh /run/sshd
  chmod 700 /root/.ssh
  printf '%s\\n' "$PUBLIC_KEY" >>/root/.ssh/authorized_keys
  chmod 600 /root/.ssh/authorized_keys
  if [ ! -f /etc/ssh/ssh_host_ed25519_key ]; then
    ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
  fi
  "@SSHD@"
fi
export -p >/etc/rp_environment
chmod 644 /etc/rp_environment
echo 'source /etc/rp_environment' >>/root/.bashrc
sleep infinity
"""

UNCONFINED_START_SH = """\
#!/bin/bash
echo "start.sh: simulated image, unconfined: no sshd"
sleep 2147483647
"""

SIM_INIT = """\
#!/bin/bash
# Simulated: an init in front of the command, as some images have; the command stays in its own argv.
"$@" &
child=$!
# A signal ends "wait" as well, with a status of its own.
trap 'told=1; kill -TERM "$child" 2>/dev/null' TERM
told=1
while ((told)); do
  told=0
  wait "$child"
  status=$?
done
exit "$status"
"""

NVIDIA_SMI = """\
#!/bin/bash
# Simulated: this machine's GPU is made up.
name='@GPU@'
count=@COUNT@
field() {
  case $1 in
    name | gpu_name) echo "$name" ;;
    index) echo "$2" ;;
    count) echo "$count" ;;
    uuid | gpu_uuid) echo "GPU-simulated-$2" ;;
    driver_version) echo '@DRIVER@' ;;
    memory.total | memory.free) echo "@MEMORY@$unit" ;;
    memory.used | utilization.gpu | utilization.memory) echo "0$unit" ;;
    temperature.gpu) echo 30 ;;
    *) echo '[Not Supported]' ;;
  esac
}
query='' header=1 unit=' MiB'
for word in "$@"; do
  case $word in
    -L | --list-gpus) query=list ;;
    --query-gpu=*) query=${word#*=} ;;
    --format=*) case $word in *noheader*) header=0 ;; esac; case $word in *nounits*) unit='' ;; esac ;;
  esac
done
if [ "$query" = list ] || [ -z "$query" ]; then
  [ -n "$query" ] || echo '| NVIDIA-SMI @DRIVER@ (simulated)  Driver Version: @DRIVER@  CUDA Version: @CUDA@  |'
  for ((gpu = 0; gpu < count; gpu++)); do echo "GPU $gpu: $name (UUID: GPU-simulated-$gpu)"; done
  exit 0
fi
[ "$header" = 0 ] || echo "${query//,/, }"
for ((gpu = 0; gpu < count; gpu++)); do
  line=''
  IFS=, read -ra names <<<"$query"
  for word in "${names[@]}"; do line+="${line:+, }$(field "${word// /}" "$gpu")"; done
  echo "$line"
done
"""

# UsePAM no: PAM modules of the host need what the pod does not have. The network is shared, so without a port of its
# own the address is one that no machine has (RFC 5737), and sshd cannot take port 22 of the host.
SSHD_CONFIG = """\
Port @PORT@
ListenAddress @ADDRESS@
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PrintMotd no
AcceptEnv LANG LC_*
Subsystem sftp internal-sftp
"""
NOWHERE = "192.0.2.1"


def _filled(template: str, **values: object) -> str:
    for name, value in values.items():
        template = template.replace(f"@{name.upper()}@", str(value))
    return template


def start_sh(sshd: str) -> str:
    """The image's /start.sh; `sshd` is the server's path, which need not exist."""
    return _filled(START_SH, sshd=sshd)


def nvidia_smi(launch: Launch) -> str:
    """A stand-in that lists the GPUs of this launch."""
    return _filled(
        NVIDIA_SMI,
        gpu=launch.gpu.replace("'", ""),
        count=launch.gpu_count,
        memory=launch.gpu_memory,
        driver=launch.driver,
        cuda=launch.cuda,
    )


def sshd_config(port: int | None) -> str:
    """A whole sshd_config: on this loopback port, or on none."""
    return _filled(SSHD_CONFIG, port=port or 22, address="127.0.0.1" if port else NOWHERE)


def blank_hashes(shadow: str) -> str:
    """Shadow or gshadow lines without the hashes.

    `*` and not `!`: without PAM, sshd takes `!` for a locked account and refuses even a key.
    """
    lines = [line.split(":") for line in shadow.splitlines() if ":" in line]
    return "".join(":".join([fields[0], "*", *fields[2:]]) + "\n" for fields in lines)


def container_passwd(passwd: str) -> str:
    """The machine's accounts, with root as images have it: at home in /root, with bash."""
    others = [line for line in passwd.splitlines() if line and not line.startswith("root:")]
    return "\n".join(["root:x:0:0:root:/root:/bin/bash", *others]) + "\n"
