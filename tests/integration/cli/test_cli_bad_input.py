"""Everything that a user can get wrong, or a service can: one line, an exit code of its own, nothing left rented."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runner_provisioner.simulators.faults import Fault, FaultKind

if TYPE_CHECKING:
    from integration.cli.conftest import Services

Prepare = Callable[["Services"], None]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A command that fails: what is prepared, and what is said."""

    id: str
    command: tuple[str, ...]
    code: int
    says: str
    environment: dict[str, str] = field(default_factory=dict)
    prepare: Prepare = lambda _services: None


def _fault(operation: str, kind: FaultKind, **more: object) -> Prepare:
    def prepare(services: Services) -> None:
        services.runpod.faults.add(Fault(operation=operation, kind=kind, times=None, **more))  # type: ignore[arg-type]

    return prepare


def _no_stock(services: Services) -> None:
    for model in ("NVIDIA RTX A4000", "NVIDIA RTX A5000", "NVIDIA GeForce RTX 4090"):
        services.runpod.market.set_stock(model, 0)


def _poor(services: Services) -> None:
    services.runpod.set_balance(Decimal(0))


def _weak_token(services: Services) -> None:
    services.github.add_token("ghp_weak", {"metadata": "read"})


def _damaged_state(services: Services) -> None:
    folder = services.folder / ".local" / "state" / "runner-provisioner"
    folder.mkdir(parents=True)
    owner8 = _owner8(services)
    (folder / f"rp-{owner8}-2s-1-default.json").write_text("{ not json")


def _owner8(services: Services) -> str:
    from runner_provisioner.domain.names import Scope  # noqa: PLC0415 - beside its one use

    return Scope.parse("octo/hello", server_url=services.environment["GITHUB_SERVER_URL"]).owner8


NOWHERE = "http://127.0.0.1:9"
CASES = (
    Case(
        id="no-runpod-key",
        command=("start",),
        environment={"RUNPOD_API_KEY": ""},
        code=3,
        says="set one of RUNPOD_API_KEY",
    ),
    Case(
        id="two-line-key",
        command=("start",),
        environment={"RUNPOD_API_KEY": "rpa_one\nrpa_two"},
        code=2,
        says="RUNPOD_API_KEY holds a line break",
    ),
    Case(
        id="two-line-token",
        command=("start",),
        environment={"GITHUB_TOKEN": "ghp_one\nghp_two"},
        code=2,
        says="GITHUB_TOKEN holds a line break",
    ),
    Case(
        id="repository-of-three-parts",
        command=("start", "--repository", "a/b/c"),
        code=2,
        says="--repository a/b/c: write OWNER/NAME",
    ),
    Case(id="no-github", command=("start",), environment={"GITHUB_TOKEN": ""}, code=3, says="no GitHub credential"),
    Case(
        id="half-an-app",
        command=("start",),
        environment={"GITHUB_TOKEN": "", "GITHUB_APP_ID": "1"},
        code=3,
        says="GITHUB_APP_PRIVATE_KEY",
    ),
    Case(
        id="refused-runpod-key",
        command=("start",),
        environment={"RUNPOD_API_KEY": "nonsense"},
        code=4,
        says="set RUNPOD_API_KEY to a valid key",
    ),
    Case(
        id="refused-github-token",
        command=("start",),
        environment={"GITHUB_TOKEN": "ghp_nonsense"},
        code=4,
        says="GitHub refused the token in GITHUB_TOKEN",
    ),
    Case(
        id="no-permission",
        command=("start",),
        environment={"GITHUB_TOKEN": "ghp_weak"},
        prepare=_weak_token,
        code=5,
        says="administration",
    ),
    Case(id="unknown-gpu", command=("start", "--gpu", "RTX 409"), code=7, says="did you mean NVIDIA GeForce RTX 4090"),
    Case(id="unknown-gpu-offers", command=("offers", "--gpu", "4000 A"), code=7, says="NVIDIA RTX A4000"),
    Case(
        id="bid-below-minimum",
        command=("start", "--interruptible", "require", "--bid", "0.01"),
        code=21,
        says="below the minimum 0.09",
    ),
    Case(
        id="cap-below-all",
        command=("start", "--max-price", "0.01"),
        code=25,
        says="the cheapest is 1 x NVIDIA RTX A4000 interruptible at 0.09 USD/h",
    ),
    Case(id="no-stock", command=("start",), prepare=_no_stock, code=20, says="try again later"),
    Case(
        id="spot-discontinued",
        command=("start", "--interruptible", "require"),
        prepare=lambda services: setattr(services.runpod.market, "spot", False),
        code=23,
        says="use --interruptible prefer or never",
    ),
    Case(id="no-money", command=("start",), prepare=_poor, code=22, says="balance"),
    Case(
        id="unreachable-runpod",
        command=("start",),
        environment={"RUNPOD_API_URL": f"{NOWHERE}/graphql"},
        code=11,
        says="127.0.0.1 cannot be reached; check the address and the network",
    ),
    Case(
        id="unreachable-github",
        command=("start",),
        environment={"GITHUB_API_URL": NOWHERE},
        code=11,
        says="127.0.0.1 cannot be reached",
    ),
    Case(
        id="unknown-host",
        command=("offers",),
        environment={"RUNPOD_API_URL": "https://nowhere.invalid/graphql"},
        code=11,
        says="nowhere.invalid",
    ),
    Case(
        id="plain-http",
        command=("offers",),
        environment={"RUNPOD_API_URL": "http://api.example.com/graphql"},
        code=2,
        says="RUNPOD_API_URL must begin with https://",
    ),
    Case(
        id="server-error",
        command=("offers",),
        prepare=_fault("*", FaultKind.ERROR, status=500),
        code=11,
        says="try again later, see its status page (status 500)",
    ),
    Case(
        id="malformed",
        command=("gpu-types",),
        prepare=_fault("*", FaultKind.MALFORMED),
        code=12,
        says="check the address of the service",
    ),
    Case(id="cut-off", command=("pods", "list"), prepare=_fault("*", FaultKind.DROP_BEFORE), code=11, says="runpod"),
    Case(id="no-such-pod", command=("pods", "get", "nope"), code=6, says="'pods list' shows those that exist"),
    Case(id="no-pod-to-stop", command=("pods", "stop", "nope"), code=6, says="no pod 'nope'"),
    Case(id="no-pod-to-log-in", command=("ssh", "nope"), code=6, says="no pod 'nope'"),
    Case(id="which-run", command=("stop",), code=2, says="give --run-id"),
    Case(id="which-pod", command=("ssh",), code=2, says="give its id, or --label, or --run-id"),
    Case(id="run-id-nonsense", command=("stop", "--run-id", "12x"), code=2, says="the number of a workflow run"),
    Case(id="no-place", command=("status",), environment={"GITHUB_REPOSITORY": ""}, code=2, says="--repository"),
    Case(id="unknown-option", command=("start", "--frob"), code=2, says="start --help shows what there is"),
    Case(id="unknown-command", command=("frob",), code=2, says="--help shows what there is"),
    Case(id="bad-duration", command=("start", "--idle", "5x"), code=2, says="write 90s, 10m, 6h15m or 1d"),
    Case(id="bad-price", command=("start", "--max-price", "NaN"), code=2, says="is not a price"),
    Case(id="bad-env", command=("start", "--env", "nope"), code=2, says="NAME=VALUE"),
    Case(id="no-gpus", command=("start", "--gpu-count", "0"), code=2, says="give at least 1"),
    Case(id="no-image", command=("start", "--image", ""), code=2, says="--image ''"),
    Case(id="bad-port", command=("start", "--port", "99999/udp"), code=2, says="--port '99999/udp'"),
    Case(id="bad-mount", command=("start", "--volume-mount", "/etc"), code=2, says="--volume-mount '/etc'"),
    Case(id="run-id-zero", command=("stop", "--run-id", "0"), code=2, says="--run-id 0"),
    Case(
        id="bad-mount-by-hand",
        command=("pods", "create", "--gpu-type", "RTX 4090", "--image", "x", "--volume-mount-path", "/usr"),
        code=2,
        says="--volume-mount-path '/usr'",
    ),
    Case(
        id="bad-port-by-hand",
        command=("pods", "create", "--gpu-type", "RTX 4090", "--image", "x", "--port", "22"),
        code=2,
        says="--port '22'",
    ),
    Case(
        id="no-image-by-hand",
        command=("pods", "create", "--gpu-type", "RTX 4090", "--image", " "),
        code=2,
        says="--image ' '",
    ),
    Case(
        id="no-lifetime-by-hand",
        command=("pods", "create", "--gpu-type", "RTX 4090", "--image", "x", "--lifetime", "30s"),
        code=2,
        says="--lifetime 30s: a pod lives for a minute at least",
    ),
    Case(
        id="lifetime-behind-our-back",
        command=("pods", "create", "--gpu-type", "RTX 4090", "--image", "x", "--option", "terminate_after=1"),
        code=2,
        says="use --lifetime",
    ),
    Case(
        id="attempt-of-another-run",
        command=("start", "--run-id", "100"),
        code=2,
        says="give --attempt too",
    ),
    Case(id="gpu-from-nowhere", command=("offers", "--gpu", "zzz"), code=7, says="'gpu-types' lists all"),
    Case(id="too-long-a-start", command=("start", "--start-timeout", "51m"), code=2, says="1s to 50m"),
    Case(id="bid-above-cap", command=("start", "--bid", "2"), code=2, says="lower --bid or raise --max-price"),
    Case(id="private-key", command=("start", "--ssh-key", "key"), code=2, says="give the public one"),
    Case(
        id="unknown-field",
        command=("pods", "create", "--gpu-type", "RTX 4090", "--image", "x", "--option", "nam=1"),
        code=2,
        says="did you mean 'name'",
    ),
    Case(
        id="damaged-state",
        command=("start", "--run-id", "100", "--attempt", "1"),
        prepare=_damaged_state,
        code=40,
        says="end this run's pods with 'stop', remove the file, start again",
    ),
)


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_a_failure_is_one_line_with_its_exit_code_and_rents_nothing(services: Services, case: Case) -> None:
    """The line says what to do; there is no traceback; no pod and no runner is left."""
    (services.folder / "key").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END OPENSSH PRIVATE KEY-----\n")
    case.prepare(services)
    result = services.run(*case.command, **case.environment)
    assert result.code == case.code, result.err
    assert len(result.errors) == 1, result.err
    assert case.says in result.errors[0]
    assert "Traceback" not in result.err + result.out
    assert services.runpod.live() == []
    assert services.github.runners() == []


@pytest.mark.parametrize("case", CASES[:8], ids=[case.id for case in CASES[:8]])
def test_with_json_the_error_is_data_too(services: Services, case: Case) -> None:
    """A program that reads stdout learns the class, the message and the exit code."""
    case.prepare(services)
    result = services.run(*case.command, "--json", **case.environment)
    told = result.data["error"]
    assert told["exit-code"] == case.code == result.code
    assert result.errors == [f"error: {told['message']}"]


def test_a_traceback_comes_with_debug_alone(services: Services) -> None:
    """And the one line stays."""
    result = services.run("offers", "--debug", RUNPOD_API_KEY="nonsense")
    assert result.code == 4
    assert "Traceback" in result.err
    assert len(result.errors) == 1


def test_an_error_is_an_annotation_in_actions(services: Services) -> None:
    """The workflow's page shows it without opening the log."""
    result = services.run("pods", "get", "nope", GITHUB_ACTIONS="true")
    assert "::error title=runner-provisioner::no pod 'nope'" in result.err


def test_an_internal_error_asks_for_a_report(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own mistakes are one line as well, with a code of their own."""
    monkeypatch.setattr("runner_provisioner.services.manual.ManualPods.look", None)
    result = services.run("pods", "list")
    assert result.code == 70
    assert result.errors == [
        "error: internal error, please report it (TypeError): run again with --debug for the details"
    ]


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let no file below a folder of this name be written."""
    real = os.fsync

    def fill(folder: str) -> None:
        def fsync(handle: int) -> None:
            path = Path(f"/proc/self/fd/{handle}").resolve()
            if stat.S_ISREG(os.fstat(handle).st_mode) and folder in path.parts:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(handle)

        monkeypatch.setattr(os, "fsync", fsync)

    return fill


@pytest.mark.parametrize("command", ["gpu-types", "start"], ids=str)
def test_a_full_disk_for_the_cache_is_said_before_anything_is_rented(
    services: Services, full_disk: Callable[[str], None], command: str
) -> None:
    """The GPU list cannot be kept; neither could a state file."""
    full_disk(".cache")
    result = services.run(command)
    assert result.code == 40
    assert "the disk is full: free some space" in result.errors[0]
    assert services.runpod.live() == []


def test_a_full_disk_for_the_state_file_rents_nothing(services: Services, full_disk: Callable[[str], None]) -> None:
    """What could not be found again is not rented."""
    full_disk(".local")
    result = services.run("start")
    assert result.code == 40
    assert "the disk is full" in result.errors[0]
    assert services.runpod.pods() == []


def test_the_cache_is_the_users_alone(services: Services) -> None:
    """Mode 0600."""
    assert services.run("gpu-types").code == 0
    files = [path for path in (services.folder / ".cache").rglob("*") if path.is_file()]
    assert files
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
