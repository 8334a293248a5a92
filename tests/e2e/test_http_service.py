"""The HTTP service as users run it: a process of its own, curl, a shell script, and signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.served import PROGRAM, house

pytestmark = pytest.mark.usefixtures("unmeasured")

PODS = "/api/cloud/pods"
WISH: dict[str, Any] = {"name": "mine", "image_name": "x/y", "gpu_type_id": "NVIDIA RTX A4000"}
UPGRADE = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
# The "complete workflow" of the contract, as a user has it: it knows this address and these tools, and nothing else.
WORKFLOW = """\
#!/bin/bash
TEMPLATE_RESPONSE=$(curl -s -X POST http://localhost:8000/machines/template \\
  -H "Content-Type: application/json" \\
  -d '{
    "docker_image": "elaich/simple-vllm-launcher",
    "docker_image_tag": "latest",
    "startup_commands": "",
    "port_mapping": [22, 8000],
    "name": "template-name"
  }')
TEMPLATE_ID=$(echo $TEMPLATE_RESPONSE | jq -r '.id')
echo "Template created with ID: $TEMPLATE_ID"
while true; do
  TEMPLATE_STATUS=$(curl -s http://localhost:8000/machines/template/$TEMPLATE_ID | jq -r '.status')
  echo "Template status: $TEMPLATE_STATUS"
  if [ "$TEMPLATE_STATUS" == "VERIFY_SUCCESS" ]; then
    echo "Template verified successfully!"
    break
  elif [ "$TEMPLATE_STATUS" == "VERIFY_FAILED" ]; then
    echo "Template verification failed."
    exit 1
  fi
  echo "Waiting for template verification..."
  sleep 30
done
EXECUTOR_ID=$(curl -s http://localhost:8000/machines/ | \\
  jq -r '.[] | select(.gpu_type | contains("A100")) | .id' | head -n 1)
echo "Selected executor: $EXECUTOR_ID"
POD_RESPONSE=$(curl -s -X POST http://localhost:8000/machines/ \\
  -H "Content-Type: application/json" \\
  -d "{
    \\"template_id\\": \\"$TEMPLATE_ID\\",
    \\"executor_id\\": \\"$EXECUTOR_ID\\",
    \\"ssh_key\\": \\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB/6vi7VtlHAbDYurbV/k70dQql4m7GcdCuBtYMCu/t8 my-key\\",
    \\"name\\": \\"my-awesome-pod\\"
  }")
POD_ID=$(echo $POD_RESPONSE | jq -r '.id')
echo "Pod created with ID: $POD_ID"
while true; do
  POD_INFO=$(curl -s http://localhost:8000/machines/$POD_ID)
  POD_STATUS=$(echo $POD_INFO | jq -r '.status')
  echo "Pod status: $POD_STATUS"
  if [ "$POD_STATUS" == "RUNNING" ]; then
    echo "Pod is now running!"
    SSH_CMD=$(echo $POD_INFO | jq -r '.ssh_connect_cmd')
    echo "Connect using: $SSH_CMD"
    break
  elif [ "$POD_STATUS" == "FAILED" ]; then
    echo "Pod creation failed."
    exit 1
  fi
  echo "Waiting for pod to start..."
  sleep 20
done
echo "Successfully created and started pod!"
"""


def test_the_contracts_shell_script_runs_unchanged(tmp_path: Path) -> None:
    """In front of a simulated Celium, with a `sleep` that does not wait long and a `curl` that knows where we are."""
    with house(tmp_path, "celium") as place:
        service = place.serve("--log", "json")
        port = place.url.rpartition(":")[2]
        tools = tmp_path / "tools"
        tools.mkdir()
        _tool(tools / "sleep", 'exec /bin/sleep 0.2 # instead of "$@"')
        _tool(tools / "curl", f'exec /usr/bin/curl --connect-to localhost:8000:127.0.0.1:{port} "$@"')
        script = tmp_path / "workflow.sh"
        script.write_text(WORKFLOW)
        done = subprocess.run(
            ["bash", str(script)],
            env={"PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Template status: VERIFY_SUCCESS" in done.stdout
        assert "Connect using: ssh root@127.0.0.1 -p" in done.stdout
        assert done.stdout.endswith("Successfully created and started pod!\n")
        (pod,) = place.world.live()
        assert done.stdout.count(pod.id) == 1
        for strange in (b"no HTTP\r\n\r\n", UPGRADE):
            with socket.create_connection(("127.0.0.1", int(port)), timeout=10) as line:
                line.sendall(strange)
                assert line.recv(100).startswith(b"HTTP/1.1 ")
        service.send_signal(signal.SIGTERM)
        assert service.wait(30) == 0
        # Whatever reads the log of a service can read every line of it.
        _, _, log = (tmp_path / "said0").read_text().partition("(docs at /docs)\n")
        assert {json.loads(line)["level"] for line in log.splitlines()} >= {"debug"}
        # Nor can anybody who gets no further than its socket fill that log.
        assert [word for word in ("Invalid HTTP", "upgrade", "pip install") if word in log] == []


def _tool(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


@pytest.mark.full
def test_keys_made_on_the_command_line_open_the_service(tmp_path: Path) -> None:
    """Without one it listens on loopback only; with one nobody gets in without it; curl is a client."""
    with house(tmp_path, "runpod") as place:
        refused = subprocess.run(
            [*PROGRAM, "serve", "--host", "0.0.0.0", "--port", "0"],  # noqa: S104 - refused
            env=place.environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert refused.returncode == 2
        assert "keys create" in refused.stderr
        key = place.call("keys", "create", "--name", "mine", "--permission", "read+write").strip()
        place.serve("--host", "0.0.0.0", "--allow-host", "gpu.example")  # noqa: S104 - with a key
        url = place.url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - of which loopback is a part
        with httpx.Client(base_url=url, trust_env=False) as client:
            assert client.get(PODS).status_code == 401
            assert client.get(PODS, headers={"host": "elsewhere.example"}).status_code == 400
            good = {"authorization": f"Bearer {key}"}
            assert client.get(PODS, headers={**good, "host": "gpu.example"}).status_code == 200
            assert client.post(PODS, json=WISH, headers=good).status_code == 200
        shown = subprocess.run(
            ["curl", "-sf", "-H", f"Authorization: Bearer {key}", f"{url}/api/v1/pods"],
            capture_output=True,
            check=True,
            timeout=60,
        )
        assert b'"total_count":1' in shown.stdout
