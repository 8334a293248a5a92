"""What each command prints, writes and leaves, against both simulated services."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.families import family

from runner_provisioner.cli import session as session_module
from runner_provisioner.simulators.faults import Fault, FaultKind

if TYPE_CHECKING:
    from integration.cli.conftest import Services

OUTPUTS = {
    "label",
    "runner-name",
    "pod-id",
    "provider",
    "gpu-type",
    "price-per-hour",
    "interruptible",
    "ssh-command",
    "started-at",
}
WORKFLOW = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_EVENT_NAME": "workflow_dispatch",
    "GITHUB_RUN_ATTEMPT": "1",
    "RUNNER_PROVISIONER_SETTLE": "0.1",
}


def _run(services: Services) -> dict[str, str]:
    """The variables of a step in a queued run, with a GITHUB_OUTPUT of its own."""
    run_id = services.github.queue_job("octo/hello", ["nobody"])
    output = services.folder / "output"
    output.touch()
    temp = services.folder / "temp"
    return {**WORKFLOW, "GITHUB_RUN_ID": str(run_id), "GITHUB_OUTPUT": str(output), "RUNNER_TEMP": str(temp)}


def _outputs(path: Path) -> dict[str, str]:
    found = re.findall(r"^([a-z-]+)<<(\S+)\n(.*?)\n\2$", path.read_text(), re.MULTILINE | re.DOTALL)
    return {name: value for name, _, value in found}


def test_start_prints_and_writes_its_outputs(services: Services) -> None:
    """The same nine on stdout and in GITHUB_OUTPUT; talk goes to stderr."""
    services.runpod.market.spot = True
    services.usher()
    environment = _run(services)
    result = services.run("start", **environment)
    assert result.code == 0, result.err
    printed = dict(line.split(": ", 1) for line in result.out.splitlines())
    written = _outputs(Path(environment["GITHUB_OUTPUT"]))
    assert set(written) == OUTPUTS
    assert printed == {name: value for name, value in written.items() if value}
    (pod,) = services.runpod.live()
    assert (written["pod-id"], written["runner-name"]) == (pod.id, pod.name)
    assert re.fullmatch(r"rp-[a-z]{26}", written["label"])
    assert written["provider"] == "runpod"
    assert written["gpu-type"] == "NVIDIA RTX A4000"
    assert written["price-per-hour"] == "0.099"
    assert written["interruptible"] == "true"
    assert written["ssh-command"].startswith("ssh -p ")
    assert datetime.fromisoformat(written["started-at"]) > datetime.now(UTC) - timedelta(minutes=1)
    assert "runner is online" in result.err
    assert "\r" not in result.err
    assert "\x1b" not in result.err


def test_start_again_gives_the_same_runner(services: Services) -> None:
    """A repeated start of the same key finds its state file."""
    services.usher()
    environment = _run(services)
    first, second = (services.run("start", "--json", **environment).data for _ in range(2))
    assert (first["label"], first["pod-id"]) == (second["label"], second["pod-id"])
    assert len(services.runpod.pods()) == 1


def test_start_elsewhere_with_the_same_key_is_refused_and_ends_nothing(services: Services) -> None:
    """Two legs of a matrix that did not get keys of their own."""
    services.usher()
    environment = _run(services)
    assert services.run("start", **environment).code == 0
    result = services.run("start", **{**environment, "RUNNER_TEMP": str(services.folder / "other")})
    assert result.code == 26
    assert "this run already has a pod with key default: give each start its own key" in result.errors[0]
    assert len(services.runpod.live()) == 1


def test_start_and_stop_in_a_workflow_leave_nothing(services: Services) -> None:
    """Stop needs no ids; run twice it says that nothing is there."""
    services.usher()
    environment = _run(services)
    pod = services.run("start", "--json", **environment).data["pod-id"]
    result = services.run("stop", "--json", **environment)
    assert result.code == 0, result.err
    (ended,) = result.data["ended"]
    assert ended["pods"] == [pod]
    assert services.runpod.live() == []
    assert services.github.runners() == []
    assert list((services.folder / "temp" / "runner-provisioner").glob("*.json")) == []
    assert "attempt.jobs" not in [call.operation for call in services.github.calls], "its runner was idle"
    again = services.run("stop", **environment)
    assert (again.code, again.out.splitlines()[0]) == (0, f"found nothing named {ended['name']} at runpod")
    assert "status" not in again.err


def test_a_local_start_says_how_to_end_it(services: Services) -> None:
    """Its run part is random; stop takes it, the wrong one ends nothing."""
    services.usher()
    result = services.run("start")
    assert "any job of octo/hello that asks for the label may take it" in result.err
    found = re.search(r"to end it: runner-provisioner (stop --run-id ([a-z]{8}) --key default)", result.err)
    assert found is not None
    assert services.run("stop", "--run-id", "qwertyui").code == 0
    assert len(services.runpod.live()) == 1
    assert services.run(*found.group(1).split()).code == 0
    assert services.runpod.live() == []


def test_nothing_is_said_of_ending_when_nothing_is_rented(services: Services) -> None:
    """A failed credential check leaves nothing to stop."""
    result = services.run("start", RUNPOD_API_KEY="nonsense")
    assert "to end it" not in result.err


def test_json_holds_the_timeline_and_the_calls(services: Services) -> None:
    """Durations and outcomes by operation."""
    services.usher()
    data = services.run("start", "--json").data
    assert data.keys() >= OUTPUTS
    assert [event["event"] for event in data["timeline"]][-1] in {"lease_ready", "lease_busy"}
    calls = {(one["service"], one["operation"]): one for one in data["calls"]}
    rent = calls["runpod", "podRentInterruptable"]
    assert rent["outcomes"] == {"SPOT_DISCONTINUED": 1}
    assert rent.keys() >= {"calls", "failures", "mean_ms", "max_ms"}


def test_many_failed_calls_are_an_alert(services: Services) -> None:
    """More than 10 of the last 100 of one operation."""
    services.usher()
    services.runpod.faults.add(Fault(operation="myself.pods", kind=FaultKind.ERROR, status=500, skip=1, times=12))
    result = services.run("start", RUNNER_PROVISIONER_RETRY_BASE="0.001")
    assert result.code == 0, result.err
    assert re.search(r"^warning: runpod myPods: 1\d of the last \d+ calls failed$", result.err, re.MULTILINE)


def test_status_and_cleanup_tell_what_is_owned(services: Services) -> None:
    """A pod whose run lasts is left; once the attempt is over it is an orphan and ended."""
    services.usher()
    environment = _run(services)
    assert services.run("start", **environment).code == 0
    status = services.run("status")
    assert status.code == 0
    assert "running" in status.out
    assert "scope http://" in status.err
    kept = services.run("cleanup", "--json")
    assert (kept.code, kept.data["ended"], len(kept.data["kept"])) == (0, [], 2)
    services.github.complete_run(int(environment["GITHUB_RUN_ID"]))
    dry = services.run("cleanup", "--dry-run", "--json")
    assert (dry.code, len(dry.data["left"])) == (30, 1)
    assert {entry["kind"]: entry["verdict"] for entry in dry.data["kept"]}["pod"] == "orphan"
    assert len(services.runpod.live()) == 1
    swept = services.run("cleanup", "--json")
    assert swept.code == 0, swept.err
    assert {entry["kind"] for entry in swept.data["ended"]} == {"pod"}
    assert {event["event"] for event in swept.data["timeline"]} >= {"pod_end_asked", "runner_removed"}
    assert services.runpod.live() == []
    assert services.github.runners() == []
    assert services.run("cleanup").out == "nothing of ours is there\n"


def test_the_exit_code_of_cleanup_says_what_leaks(services: Services) -> None:
    """A terminate that is ignored for ever."""
    services.usher()
    environment = _run(services)
    assert services.run("start", **environment).code == 0
    services.github.complete_run(int(environment["GITHUB_RUN_ID"]))
    services.runpod.faults.add(Fault(operation="podTerminate", kind=FaultKind.IGNORED, times=None))
    from runner_provisioner.services import reconcile  # noqa: PLC0415 - patched here alone

    services.monkeypatch.setattr(
        "runner_provisioner.wiring.Polls", lambda **polls: reconcile.Polls(**polls, patience=0.2)
    )
    result = services.run("cleanup", "--json")
    assert result.code == 30
    assert result.data["left"]
    assert "still there" in result.errors[0]


def test_cleanup_that_cannot_look_is_a_failure(services: Services) -> None:
    """What is unknown is left alone, and said."""
    services.github.faults.add(Fault(operation="*", kind=FaultKind.ERROR, status=500, times=None))
    result = services.run("cleanup")
    assert result.code == 11
    assert len(result.errors) == 1
    for command in ("cleanup", "status"):
        out = services.run(command).out
        assert "could not look at github: " in out
        assert "nothing of ours" not in out


def test_a_stop_that_finds_nothing_says_so_and_what_there_is(services: Services) -> None:
    """Outside Actions: most likely --run-id or --key is another one."""
    nothing = services.run("stop", "--run-id", "abcdefgh")
    assert nothing.code == 0
    assert re.fullmatch(r"found nothing named rp-[0-9a-f]{8}-abcdefgh-0-default at runpod\n", nothing.out)
    assert "'status' shows what there is; no pod of this owner lives" in nothing.err
    services.usher()
    assert services.run("start", "--run-id", "qwertyui").code == 0
    (pod,) = services.runpod.live()
    assert f"pods that live: {pod.name}" in services.run("stop", "--run-id", "abcdefgh").err
    assert services.runpod.live() == [pod]


def test_a_damaged_state_file_does_not_keep_stop_from_ending(services: Services) -> None:
    """By name; then it complains."""
    services.usher()
    environment = _run(services)
    assert services.run("start", **environment).code == 0
    (state,) = (services.folder / "temp" / "runner-provisioner").glob("*.json")
    state.write_text("{")
    result = services.run("stop", "--own", **environment)
    assert (result.code, services.runpod.live()) == (40, [])
    assert "damaged" in result.errors[0]


def test_a_start_that_rents_nothing_leaves_no_state(services: Services) -> None:
    """Neither the file nor its lock; what was there before stays."""
    environment = _run(services)
    folder = services.folder / "temp" / "runner-provisioner"
    assert services.run("start", "--gpu", "RTX 409", **environment).code == 7
    assert not folder.exists() or list(folder.iterdir()) == []


def test_without_an_ssh_key_the_accounts_are_named(services: Services) -> None:
    """Once; whoever gave one knows."""
    said = "keys of the provider's account"
    assert services.run("start", "--gpu", "RTX 409").err.count(said) == 1
    assert said not in services.run("start", "--gpu", "RTX 409", "--ssh-key", "ssh-ed25519 AAAA me").err


@pytest.mark.parametrize(
    ("redirection", "code"),
    [
        pytest.param(">&-", 74, id="stdout", marks=pytest.mark.full),
        pytest.param("2>&-", 0, id="stderr", marks=pytest.mark.full),
        pytest.param(">&- 2>&-", 74, id="both"),
    ],
)
@pytest.mark.parametrize("command", family(["start", "offers"], daily={"start"}))
def test_a_closed_stream_is_no_internal_error(services: Services, command: str, redirection: str, code: int) -> None:
    """Without stdout nobody learns of the pod, so it is given back; without stderr nobody listens, that is all."""
    services.usher()
    line = f"exec {shlex.quote(sys.executable)} -m runner_provisioner {command} {redirection}"
    done = subprocess.run(
        ["sh", "-c", line],
        env=services.environment,
        cwd=services.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert len(services.runpod.live()) == (1 if (command, code) == ("start", 0) else 0)


def test_offers_lists_the_ladder(services: Services) -> None:
    """In the order they would be tried, with the reasons for the rest."""
    data = services.run("offers", "--json", "--max-price", "0.2").data["offers"]
    tried = [one["gpu"] for one in data if one["refused"] is None]
    assert tried[0] == "NVIDIA RTX A4000"
    assert any("above the max price 0.2" in one["refused"] for one in data if one["refused"])
    table = services.run("offers").out.splitlines()
    assert table[0].split() == ["provider", "GPU", "count", "kind", "USD/h", "stock", "refused", "because"]


def test_gpu_types_lists_what_there_is(services: Services) -> None:
    """As a table and as data."""
    assert "NVIDIA RTX A4000" in services.run("gpu-types").out
    assert {"id", "name", "memory-gb", "secure", "community", "provider"} <= set(
        services.run("gpu-types", "--json").data["gpu-types"][0]
    )


@pytest.mark.parametrize("command", family(["gpu-types", "offers", "status"], daily={"offers"}))
def test_a_closed_stdout_is_one_line(services: Services, command: str) -> None:
    """No traceback, no complaint of the interpreter at exit."""
    reader, writer = os.pipe()
    os.close(reader)
    with services.spawn(command, stdout=writer) as process:
        os.close(writer)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 74, err
    lines = [line for line in err.splitlines() if not line.startswith("scope ")]
    assert lines == [
        "error: the result could not be written to standard output (Broken pipe): send it to a reader that stays"
    ]


@pytest.mark.parametrize(
    "command",
    family([("start",), ("pods", "create", "--gpu-type", "RTX 4090", "--image", "x")], daily={("start",)}),
)
def test_what_cannot_be_told_is_given_back(services: Services, command: tuple[str, ...]) -> None:
    """A pod nobody learns of would only cost money."""
    services.usher()
    reader, writer = os.pipe()
    os.close(reader)
    with services.spawn(*command, stdout=writer) as process:
        os.close(writer)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 74, err
    assert len(services.runpod.pods()) == 1
    assert services.runpod.live() == []


def test_an_output_file_that_cannot_be_written_gives_the_pod_back(services: Services) -> None:
    """The workflow would wait for a label that it never gets."""
    services.usher()
    environment = _run(services) | {"GITHUB_OUTPUT": str(services.folder / "no" / "such")}
    result = services.run("start", **environment)
    assert result.code == 40
    assert "GITHUB_OUTPUT" in result.errors[0]
    assert services.runpod.live() == []


@pytest.mark.full
def test_a_terminal_sees_one_line_with_time_and_cost(services: Services) -> None:
    """It is rewritten, and taken away in the end; in CI there is none."""
    services.usher()
    seen = _on_terminal(services, {"CI": ""})
    assert re.search(r"\r\x1b\[2K  \d+s  0(\.\d+)? USD  .* \.\.\.", seen)
    assert "\x1b" not in _on_terminal(services, {"CI": "true"})


def _on_terminal(services: Services, environment: dict[str, str]) -> str:
    master, slave = pty.openpty()
    with services.spawn(
        "start", environment=environment | {"RUNNER_PROVISIONER_SETTLE": "1.2"}, stderr=slave, stdin=slave
    ) as process:
        os.close(slave)
        seen = b""
        while True:
            try:
                part = os.read(master, 4096)
            except OSError:
                break
            if not part:
                break
            seen += part
        process.communicate(timeout=30)
    os.close(master)
    assert process.returncode == 0, seen
    return seen.decode()


def test_the_records_of_calls_are_json_on_request(services: Services) -> None:
    """Timestamp, type, operation, status and duration; on stderr."""
    result = services.run("gpu-types", "--log", "json")
    records = [json.loads(line) for line in result.err.splitlines() if line.startswith("{")]
    kinds = {record["type"] for record in records}
    assert kinds >= {"request", "response"}
    response = next(record for record in records if record["type"] == "response")
    assert response.keys() >= {"timestamp", "type", "operation", "status", "duration_ms"}


def test_the_version_is_told(services: Services) -> None:
    """And nothing else."""
    assert re.fullmatch(r"runner-provisioner \d+\.\d+\.\d+\n", services.run("--version").out)


def test_warnings_are_annotations_in_actions(services: Services) -> None:
    """A malformed file of another tool is said, not fatal."""
    (services.folder / ".runpod").mkdir()
    (services.folder / ".runpod" / "config.toml").write_text("= broken")
    result = services.run("gpu-types", GITHUB_ACTIONS="true", RUNPOD_API_KEY=services.runpod.key)
    assert result.code in {0, 3}
    if "warning:" in result.err:
        assert "::warning title=runner-provisioner::" in result.err


def test_a_group_of_errors_shows_the_one_that_is_ours() -> None:
    """Others are what it caused."""
    from runner_provisioner.errors import NotFound  # noqa: PLC0415 - beside its one use

    ours = NotFound("it is gone")
    group = BaseExceptionGroup("many", [ValueError(), BaseExceptionGroup("more", [ours, KeyError()])])
    assert session_module.first(group) is ours


def test_the_program_runs_as_a_module(services: Services) -> None:
    """`python -m runner_provisioner`."""
    with services.spawn("--help") as process:
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Commands:" in out
    assert isinstance(process, subprocess.Popen)
