"""What `serve` refuses before it listens."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from support.service_state import State

from runner_provisioner.cli import serve
from runner_provisioner.cli.session import Session
from runner_provisioner.controller.serving import listen
from runner_provisioner.errors import ConfigurationError, InvalidRequest
from runner_provisioner.settings import Settings


def _session(folder: Path) -> Session:
    return Session(settings=Settings.read({}, home=folder, cwd=folder), as_json=False)


def _values(host: str, *, unauthenticated: bool = False) -> dict[str, Any]:
    return {"host": host, "allow_unauthenticated": unauthenticated}


@pytest.mark.parametrize("name", ["", "*", "*.example", "a/b", "a\nb"], ids=repr)
def test_a_name_that_would_let_everybody_in_is_refused(name: str) -> None:
    """One name or address each."""
    with pytest.raises(InvalidRequest, match="--allow-host"):
        serve._check_names((name,))
    serve._check_names(("gpu.example.org", "192.0.2.1", "::1"))


async def test_without_keys_it_serves_loopback_only_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Anywhere else needs a key, or somebody who knows what they do; a key is needed everywhere once there is one."""
    state, session = State(), _session(tmp_path)
    for host in ("127.0.0.1", "localhost", "::1"):
        assert not await serve._closed(session, state, _values(host))
    assert "no keys" in capsys.readouterr().err
    for host in ("0.0.0.0", "::", "192.0.2.1", "gpu.example"):  # noqa: S104 - refused
        with pytest.raises(ConfigurationError, match="keys create"):
            await serve._closed(session, state, _values(host))
        assert not await serve._closed(session, state, _values(host, unauthenticated=True))
    assert "--allow-unauthenticated" in capsys.readouterr().err
    state.kept_keys.make()
    assert await serve._closed(session, state, _values("127.0.0.1", unauthenticated=True))
    assert await serve._closed(session, state, _values("192.0.2.1"))


def test_an_answer_in_two_pieces_does_not_wait_for_the_clients_acknowledgement() -> None:
    """Which would take 40 ms: connections send what they have at once, as they inherit it from what listens."""
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_port_that_is_taken_is_an_error_before_anything_is_opened() -> None:
    """And a free one is chosen for 0."""
    with listen("127.0.0.1", 0) as one:
        port = one.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            listen("127.0.0.1", port)
