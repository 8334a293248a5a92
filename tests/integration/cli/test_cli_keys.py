"""`keys`: shown once, kept as a digest, listed, revoked, and what was done with them."""

from __future__ import annotations

import re
import sqlite3
from datetime import timedelta
from typing import TYPE_CHECKING

import anyio

from runner_provisioner.clock import SystemClock
from runner_provisioner.domain.served import AuditEntry
from runner_provisioner.storage.service import ServiceDatabase

if TYPE_CHECKING:
    from integration.cli.conftest import Services

PLAIN = re.compile(r"rpk_[0-9a-f]{12}_[0-9a-f]{48}")


def test_a_key_is_shown_once_and_can_be_revoked(services: Services) -> None:
    """On stdout and nowhere else, in no file; without network and credentials."""
    assert services.run("keys", "list").out == "no keys: make one with 'keys create'\n"
    made = services.run("keys", "create", "--name", "ci", "--permission", "read+write", "--budget", "12.5")
    assert made.code == 0, made.err
    plain = made.out.strip()
    assert PLAIN.fullmatch(plain)
    assert not PLAIN.search(made.err)
    whole = services.run("keys", "create", "--name", "nightly job", "--expires-in", "90m", "--json").data
    assert PLAIN.fullmatch(whole["key"])
    assert (whole["permission"], whole["status"], whole["budget"]) == ("read", "active", None)
    head, first, second = services.run("keys", "list").out.splitlines()
    assert head.split() == ["id", "name", "permission", "status", "budget", "spent", "expires"]
    assert first.split() == [plain.split("_")[1], "ci", "read+write", "active", "12.50", "0.00", "-"]
    assert second.startswith(f"{whole['id']}  nightly job  read")
    assert services.run("keys", "revoke", "ci").out == f"revoked {plain.split('_')[1]} (ci)\n"
    told = services.run("keys", "list", "--json")
    assert [one["status"] for one in told.data["keys"]] == ["revoked", "active"]
    folder = services.folder / ".local" / "state" / "runner-provisioner"
    held = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"nightly job" in held
    for secret in (plain.split("_")[2], whole["key"].split("_")[2]):
        assert secret.encode() not in held
        assert bytes.fromhex(secret) not in held
        assert secret not in told.out
    assert services.runpod.calls == []


def test_what_was_done_over_http_is_listed_with_whose_key_it_was(services: Services) -> None:
    """The oldest first; in --json all of it; what a stranger wrote into a path makes no line of its own."""
    assert services.run("keys", "audit").out == "nothing was written over HTTP in the last 7d\n"
    now = SystemClock().now()
    entries = (
        AuditEntry(at=now - timedelta(days=9), request_id="r0", operation="cloud.stop_pod"),
        AuditEntry(at=now - timedelta(hours=2), request_id="r1", operation="pods.create", key_id="k1"),
        AuditEntry(
            at=now - timedelta(hours=1),
            request_id="r2",
            operation="pods.delete",
            target="x\nadmin",
            provider="runpod",
            status=403,
            error="Forbidden",
            client="127.0.0.1",
        ),
    )

    async def noted() -> None:
        folder = services.folder / ".local" / "state" / "runner-provisioner"
        state = ServiceDatabase.at(folder / "service.sqlite3", variable="DATABASE", clock=SystemClock())
        for entry in entries:
            await state.audit.note(entry)
        await state.aclose()

    anyio.run(noted)
    head, first, second = services.run("keys", "audit").out.splitlines()
    assert head.split() == ["at", "key", "operation", "target", "provider", "status", "error", "client", "request"]
    assert first.split()[1:] == ["k1", "pods.create", "-", "-", "-", "-", "-", "r1"]
    told = ["-", "pods.delete", "x", "admin", "runpod", "403", "Forbidden", "127.0.0.1", "r2"]
    assert second.split()[1:] == told
    rows = services.run("keys", "audit", "--since", "30d", "--json").data["entries"]
    assert [(one["request"], one["status"]) for one in rows] == [("r0", None), ("r1", None), ("r2", 403)]
    assert services.run("keys", "audit", "--since", "90m").out.splitlines()[1].endswith("r2")


def test_bad_input_is_one_line(services: Services) -> None:
    """It names the option and what to do; nothing is kept."""
    cases = {
        ("create", "--name", "-"): "--name '-': give 1 to 60",
        ("create", "--name", "a", "--budget", "0"): "--budget 0: give 0.0001",
        ("create", "--name", "a", "--expires-in", "0s"): "--expires-in",
        ("revoke", "ci"): "no key 'ci': 'keys list' shows those there are",
    }
    for arguments, wanted in cases.items():
        result = services.run("keys", *arguments)
        assert (result.code, len(result.errors)) == (2, 1), arguments
        assert wanted in result.errors[0]
    assert services.run("keys", "list", "--json").data == {"keys": []}


def test_a_name_that_is_taken_is_told(services: Services) -> None:
    """With what to do; the key that has it goes on."""
    services.run("keys", "create", "--name", "ci")
    again = services.run("keys", "create", "--name", "ci")
    assert (again.code, again.out) == (40, "")
    assert again.errors == ["error: there is a key named 'ci' already: give another name, or revoke that one"]


def test_the_database_may_be_another_file(services: Services) -> None:
    """By its variable; one that cannot be used is told with that."""
    chosen = {"RUNNER_PROVISIONER_DATABASE": "keys.sqlite3"}
    assert services.run("keys", "create", "--name", "ci", **chosen).code == 0
    path = services.folder / "keys.sqlite3"
    with sqlite3.connect(path) as plain:
        plain.execute("UPDATE alembic_version SET version_num = '9999'")
    plain.close()
    refused = services.run("keys", "list", **chosen)
    assert refused.code == 40
    wanted = (
        "was written by a newer runner-provisioner: install that one, or set RUNNER_PROVISIONER_DATABASE to another"
    )
    assert refused.errors == [f"error: service database {path} {wanted} one"]
