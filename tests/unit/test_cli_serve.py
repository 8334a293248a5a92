"""What `serve` refuses before it listens."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.service_state import State

from runner_provisioner import logging as our_logging
from runner_provisioner.cli import app, serve, session
from runner_provisioner.cli.session import Session
from runner_provisioner.controller.serving import listen
from runner_provisioner.errors import ConfigurationError, InvalidRequest
from runner_provisioner.settings import Settings


def _session(folder: Path) -> Session:
    return Session(settings=Settings.read({}, home=folder, cwd=folder), as_json=False)


def _values(host: str, *, unauthenticated: bool = False) -> dict[str, Any]:
    return {"host": host, "allow_unauthenticated": unauthenticated}


@pytest.mark.parametrize(
    "name",
    ["", "*", "*.example", "a/b", "a\nb", "a b", "a.b:8000", "[::1]:8000", "[::1", "a..b", "-a", "gpü.example", "u@a"],
    ids=ascii,
)
def test_a_name_that_lets_everybody_in_or_nobody_is_refused(name: str) -> None:
    """One name or address each, as a Host header may hold it, and no port."""
    with pytest.raises(InvalidRequest, match=r"--allow-host .*without a port"):
        serve._check_names((name,))


def test_names_and_addresses_of_every_kind_can_be_chosen() -> None:
    """What a Host header may hold."""
    serve._check_names(
        ("gpu.example.org", "gpu", "a_b.local.", "xn--gp-wka.example", "192.0.2.1", "::1", "[2001:db8::1]")
    )


@pytest.mark.parametrize("most", ["0", "0.00001"], ids=str)
def test_a_price_at_which_nothing_can_be_rented_is_refused(most: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Such a service would refuse every create."""
    assert app.run(("serve", "--max-price", most)) == 2
    assert re.fullmatch(
        r"error: --max-price \S+: nothing can be rented for that: give 0.0001 or more\n", capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("203.0.113.77", "this machine has no such address: choose one of its own"),
        ("no-such-host.invalid", "no address is known by that name: give an address of this machine"),
        ("a" * 70, "no address is known by that name: give an address of this machine"),
    ],
    ids=["address of others", "name of nobody", "name too long"],
)
def test_where_it_cannot_listen_is_told_in_plain_words(host: str, told: str) -> None:
    """Without what the system says of it in its own."""
    with pytest.raises(ConfigurationError, match=told) as refused:
        serve._listening(host, 0)
    assert "attempting" not in str(refused.value)
    assert str(refused.value).startswith(f"--host {host} --port 0: ")


def test_a_port_that_is_taken_is_told_in_plain_words() -> None:
    """And a free one is chosen for 0."""
    with serve._listening("127.0.0.1", 0) as one:
        port = one.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"--port {port}: something listens there already"):
            serve._listening("127.0.0.1", port)


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The program can be called in an empty home, without any credential, and leaves hooks and log as they were."""
    for name in list(os.environ):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    hooks = sys.excepthook, threading.excepthook
    session.redactor.cache_clear()
    yield
    sys.excepthook, threading.excepthook = hooks
    session.redactor.cache_clear()
    out = our_logging._output
    out.level = 100
    if out.handler is not None:
        logging.getLogger().removeHandler(out.handler)
        out.handler = None


@pytest.mark.usefixtures("called")
@pytest.mark.parametrize(
    ("options", "code", "told"),
    [(("--provider", "nope"), 2, "nope"), ((), 3, "RUNPOD_API_KEY")],
    ids=["unknown provider", "no provider's key"],
)
def test_a_service_without_providers_is_one_line(
    options: tuple[str, ...], code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback, the exit code of its class, and with --json the error on standard output."""
    assert app.run(("serve", "--port", "0", "--json", *options)) == code
    shown = capsys.readouterr()
    (line,) = [one for one in shown.err.splitlines() if not one.startswith("warning: no keys")]
    assert line.startswith("error: ")
    assert told in line
    assert json.loads(shown.out)["error"]["exit-code"] == code


@pytest.mark.usefixtures("called")
@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ((), {"a warning", "an error", "LookupError", "of uvicorn"}),
        (("--log", "json"), {"a fact", "a warning", "an error", "LookupError", "of uvicorn"}),
        (("--log", "off"), set()),
    ],
    ids=["default", "json", "off"],
)
def test_what_goes_wrong_in_a_service_is_logged_unless_nobody_wants_to_know(
    options: tuple[str, ...], wanted: set[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Warnings and errors by default, with tracebacks and without secrets."""
    monkeypatch.setenv("RUNPOD_API_KEY", "rpa_planted0planted0planted0")

    async def serving(_session: Session, _values: dict[str, Any]) -> None:
        log = our_logging.get_logger("controller")
        log.info("a fact")
        log.warning("a warning", key="rpa_planted0planted0planted0")
        log.error("an error", exc_info=LookupError("rpa_planted0planted0planted0"))
        if wanted:  # else logging has a last resort of its own
            logging.getLogger("uvicorn.error").warning("of uvicorn")

    monkeypatch.setattr(serve, "_serve", serving)
    assert app.run(("serve", *options)) == 0
    told = capsys.readouterr().err
    assert {text for text in ("a fact", "a warning", "an error", "LookupError", "of uvicorn") if text in told} == wanted
    assert "planted" not in told


@pytest.mark.usefixtures("called")
@pytest.mark.parametrize("command", [("pods", "list"), ("demo",), ("simulate",), ("serve",)], ids=" ".join)
def test_a_working_directory_that_is_gone_is_one_line(
    command: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what to do about it, in every command that looks for files there."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert app.run(command) == 2
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "error: the working directory cannot be used (No such file or directory): change to one that is there"
    ]


async def test_without_keys_it_serves_loopback_only_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Anywhere else needs a key, or somebody who knows what they do; a key is needed everywhere once there is one."""
    state, talker = State(), _session(tmp_path)
    for host in ("127.0.0.1", "localhost", "::1"):
        assert not await serve._closed(talker, state, _values(host))
    assert "no keys" in capsys.readouterr().err
    for host in ("0.0.0.0", "::", "192.0.2.1", "gpu.example"):  # noqa: S104 - refused
        with pytest.raises(ConfigurationError, match="keys create"):
            await serve._closed(talker, state, _values(host))
        assert not await serve._closed(talker, state, _values(host, unauthenticated=True))
    assert "--allow-unauthenticated" in capsys.readouterr().err
    state.kept_keys.make()
    assert await serve._closed(talker, state, _values("127.0.0.1", unauthenticated=True))
    assert await serve._closed(talker, state, _values("192.0.2.1"))


def test_an_answer_in_two_pieces_does_not_wait_for_the_clients_acknowledgement() -> None:
    """Which would take 40 ms: connections send what they have at once, as they inherit it from what listens."""
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
