"""The NixOS module's HTTP service: evaluated with good and bad options, its unit looked at, its script run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.deploy import ROOT, of_unit, unit, unit_environment
from support.nix import INPUTS, Nix, failures, flake, in_nix, run_service, why_no_nix

from runner_provisioner.settings import Settings

pytestmark = pytest.mark.skipif(bool(why_no_nix()), reason=why_no_nix() or "nix is here")

PAGE = (ROOT / "docs/how-to/run-the-service.md").read_text("utf-8")
NAME = "runner-provisioner-serve"
GOOD: dict[str, Any] = {"enable": True, "runpodKeyFile": "/run/secrets/runpod-key"}
QUOTES = 'a\'b $(touch x) "c" %h'
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no provider's key": ({"runpodKeyFile": None}, "runpodKeyFile: name the file"),
    "a relative file": ({"runpodKeyFile": "runpod-key"}, "runpod-key: name the runpod-key by an absolute path"),
    "a database in the store": ({"databaseFile": "STORE/0-url"}, "outside of the Nix store, which everybody can read"),
}
GOOD_CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "everything": {
        "listenAddress": "192.0.2.1",
        "port": 8443,
        "allowHosts": ["gpu.example.org", "192.0.2.1"],
        "allowUnauthenticated": True,
        "rateLimit": 0,
        "maxPrice": "10.00",
        "owner": QUOTES,
        "budgetDay": "50",
        "budgetMonth": "500",
        "databaseFile": "/run/secrets/database",
        "primeKeyFile": "/run/secrets/prime-key",
        "primeTeamId": "team_1",
        "celiumKeyFile": "/run/secrets/celium-key",
        "extraArgs": ["--log=json"],
    },
    "off": {"enable": False},
}


@pytest.fixture(scope="module")
def nix(tmp_path_factory: pytest.TempPathFactory) -> Nix:
    """The project in a store of its own."""
    return Nix.prepared(tmp_path_factory.mktemp("nixos"))


@pytest.fixture(scope="module")
def cases(nix: Nix) -> Path:
    """A flake with a machine for each set of options, and one for the documentation's example."""
    changes = GOOD_CASES | {name: settings for name, (settings, _) in BAD.items()}
    settings = {name: GOOD | change for name, change in changes.items()}
    system = nix.run("eval", "--impure", "--raw", "--expr", "builtins.currentSystem")
    (example,) = re.findall(r"^```nix\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    store = nix.environment["NIX_STORE_DIR"]
    text = f"""
      {{
        outputs = {{ nixpkgs, runner-provisioner, ... }}:
          let
            settings = builtins.fromJSON {in_nix(json.dumps(settings).replace("STORE", store))};
            machine = module: nixpkgs.lib.nixosSystem {{
              modules = [
                runner-provisioner.nixosModules.default
                {{ nixpkgs.hostPlatform = "{system}"; }}
                module
              ];
            }};
            shown = {{ pkgs, ... }}: {{
              services.runner-provisioner.serve.package = pkgs.writeShellApplication {{
                name = "runner-provisioner";
                text = "printf '%s\\\\n' \\"$@\\"";
              }};
            }};
            of = name: options: machine {{
              imports = if name == "everything" then [ shown ] else [ ];
              config.services.runner-provisioner.serve = options;
            }};
          in
          {{
            machines = builtins.mapAttrs of settings;
            documented = machine {{ {example} }};
          }};
        {INPUTS}
      }}
    """
    return flake(nix, "cases", text)


def built(nix: Nix, cases: Path, machine: str) -> Path:
    """The service's unit of a machine."""
    return nix.build(f'{machine}.config.systemd.units."{NAME}.service".unit', flake=cases) / f"{NAME}.service"


def test_documented_machine_serves(nix: Nix, cases: Path) -> None:
    """The example of the documentation is a machine with the service, and its secrets are handed over as files."""
    file = built(nix, cases, "documented")
    assert of_unit("LoadCredential", file) == [
        "database:/run/secrets/runner-provisioner-database",
        "runpod-key:/run/secrets/runpod-key",
    ]
    environment = unit_environment(file)
    assert environment["RUNPOD_API_KEY_FILE"] == "%d/runpod-key"
    assert environment["RUNNER_PROVISIONER_DATABASE_FILE"] == "%d/database"
    read = {field.alias for field in Settings.model_fields.values()} | {"HOME", "RUNPOD_API_KEY"}
    assert {name.removesuffix("_FILE") for name in environment} <= read
    assert of_unit("WantedBy", file) == ["multi-user.target"]
    assert nix.evaluate("documented.config.assertions", apply="builtins.all (it: it.assertion)", flake=cases) is True
    user = nix.evaluate("documented.config.users.users.runner-provisioner", flake=cases)
    assert (user["isSystemUser"], user["home"]) == (True, environment["HOME"])


def test_it_is_protected_as_the_other_unit_is(nix: Nix, cases: Path) -> None:
    """NixOS's unit and deploy/'s say the same, but for folders, credentials and the command."""
    own = {"ExecStart", "Environment", "EnvironmentFile", "LoadCredential", "SetCredential", "Group", "Description"}
    folders = {"StateDirectory", "CacheDirectory", "WorkingDirectory", "After", "Wants", "WantedBy"}

    def same(settings: list[tuple[str, str]]) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for name, value in settings:
            if name not in own | folders:
                split = value.removeprefix("~").split() if name == "SystemCallFilter" else [value]
                parts = value.split() if name == "RestrictAddressFamilies" else split
                sign = "~" if value.startswith("~") else ""
                found.setdefault(name, set()).update(sign + part for part in parts)
        return found

    assert same(unit(built(nix, cases, "documented"))) == same(unit())


def test_documentation_names_every_option(nix: Nix, cases: Path) -> None:
    """The page has a row for each option of the service."""
    place = "documented.options.services.runner-provisioner.serve"
    options = nix.evaluate(place, apply="builtins.attrNames", flake=cases)
    rows = " ".join(line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `"))
    assert set(options) <= set(re.findall(r"`(\w+)`", rows))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze program")
def test_systemd_knows_every_setting(nix: Nix, cases: Path, tmp_path: Path) -> None:
    """`systemd-analyze` finds nothing unknown in the unit, and calls the service well protected."""
    file = Path(shutil.copy(built(nix, cases, "documented"), tmp_path))
    verified = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True, check=False)
    assert [line for line in verified.stderr.splitlines() if NAME in line] == []
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(file)]
    rated = subprocess.run(command, capture_output=True, text=True, check=False)
    assert rated.returncode == 0, rated.stdout + rated.stderr


def test_options_are_accepted_or_each_refused_in_one_line(nix: Nix, cases: Path) -> None:
    """What cannot be is one message that names the option, and the rest is accepted."""
    found = failures(nix, cases)
    assert {name: found[name] for name in GOOD_CASES} == {name: [] for name in GOOD_CASES}
    for name, (_, message) in BAD.items():
        assert len(found[name]) == 1, (name, found[name])
        assert message in found[name][0]
        assert "\n" not in found[name][0]
    assert nix.evaluate('machines."off".config.systemd.services', apply="builtins.attrNames", flake=cases) == []


def test_options_become_arguments_as_written(nix: Nix, cases: Path, tmp_path: Path) -> None:
    """None is read by a shell; credentials and budgets become the variables that the program knows."""
    file = built(nix, cases, "machines.everything")
    done = run_service(file, tmp_path, {})
    assert done.stdout.splitlines() == [
        *("serve", "--host", "192.0.2.1", "--port", "8443", "--rate-limit", "0", "--allow-unauthenticated"),
        *("--allow-host", "gpu.example.org", "--allow-host", "192.0.2.1", "--max-price", "10.00"),
        *("--owner", QUOTES, "--log=json"),
    ], done.stderr
    assert not (tmp_path / "x").exists()
    assert {"PRIME_TEAM_ID=team_1", "RUNNER_PROVISIONER_BUDGET_DAY=50", "RUNNER_PROVISIONER_BUDGET_MONTH=500"} <= {
        f"{name}={value}" for name, value in unit_environment(file).items()
    }


@pytest.mark.full
def test_arguments_are_ones_of_the_program(nix: Nix, cases: Path, tmp_path: Path) -> None:
    """The program, as it is built for Nix, accepts them: it ends for the file of the key, which is not there."""
    file = built(nix, cases, "machines.plain")
    done = run_service(file, tmp_path, {"RUNPOD_API_KEY_FILE": str(tmp_path / "nowhere")})
    assert (done.returncode, "RUNPOD_API_KEY_FILE" in done.stderr) == (2, True), done.stderr


@pytest.mark.full
@pytest.mark.skipif(shutil.which("shellcheck", path=str(Path(sys.executable).parent)) is None, reason="no shellcheck")
def test_scripts_pass_shellcheck(nix: Nix, cases: Path) -> None:
    """The real writeShellApplication refuses what shellcheck complains about."""
    # Not that with quotes in it: of those it complains, as they are meant.
    scripts = [of_unit("ExecStart", built(nix, cases, name))[0] for name in ("machines.plain", "documented")]
    shellcheck = Path(sys.executable).parent / "shellcheck"
    checked = subprocess.run([shellcheck, *scripts], capture_output=True, text=True, check=False)
    assert checked.stdout == ""
