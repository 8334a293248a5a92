"""The NixOS module: evaluated with good and bad options, its units looked at by systemd, its service run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.nix import INPUTS, ROOT, Nix, failures, flake, in_nix, run_service, why_no_nix

from runner_provisioner.simulators.world import SimulatedWorld, WorldPlan

pytestmark = pytest.mark.skipif(bool(why_no_nix()), reason=why_no_nix() or "nix is here")

PAGE = (ROOT / "docs/how-to/run-with-nix.md").read_text("utf-8")
NAME = "runner-provisioner-cleanup"
WATCH = "nixosConfigurations.watch.config"
GOOD: dict[str, Any] = {
    "enable": True,
    "repository": "octocat/gpu-demo",
    "runpodKeyFile": "/run/secrets/runpod-key",
    "githubAppId": "12345",
    "githubAppPrivateKeyFile": "/run/secrets/app.pem",
}
TOKEN: dict[str, Any] = {"githubAppId": None, "githubAppPrivateKeyFile": None, "githubTokenFile": "/run/secrets/token"}
QUOTES = 'a\'b $(touch x) "c"'
# Options beside the good ones, or instead of them, and what the one message says.
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no place": ({"repository": None}, "repository: set either it or"),
    "two places": ({"organization": "acme"}, "repository: set either it or"),
    "half a repository": ({"repository": "acme"}, "repository: write OWNER/NAME"),
    "no provider's key": ({"runpodKeyFile": None}, "runpodKeyFile: name the file"),
    "no GitHub credential": (TOKEN | {"githubTokenFile": None}, "githubTokenFile: set it, or"),
    "an App and a token": ({"githubTokenFile": "/run/secrets/token"}, "githubTokenFile: leave it out"),
    "two ids": ({"githubAppIdFile": "/run/secrets/id"}, "githubAppIdFile: leave it out"),
    "an App without a key": ({"githubAppPrivateKeyFile": None}, "githubAppPrivateKeyFile: a GitHub App needs"),
    "an App without an id": ({"githubAppId": None}, "githubAppPrivateKeyFile: a GitHub App needs"),
    "a relative file": ({"runpodKeyFile": "runpod-key"}, "runpod-key: name the runpod-key by an absolute path"),
    "a file in the store": ({"runpodKeyFile": "STORE/0-key"}, "outside of the Nix store, which everybody can read"),
}
GOOD_CASES: dict[str, dict[str, Any]] = {
    "app": {},
    "token": TOKEN | {"repository": None, "organization": "acme", "owner": "team", "schedule": "daily"},
    "app id in a file": {"githubAppId": None, "githubAppIdFile": "/run/secrets/app-id"},
    "other markets": {
        "runpodKeyFile": None,
        "primeKeyFile": "/run/secrets/prime-key",
        "primeTeamId": "team_1",
        "celiumKeyFile": "/run/secrets/celium-key",
    },
    "dry run": {"extraArgs": ["--dry-run", "--json"]},
    "quotes": {
        "owner": QUOTES,
        "extraArgs": ["--dry-run"],
        "primeKeyFile": "/run/secrets/prime-key",
        "primeTeamId": QUOTES,
        "celiumKeyFile": "/run/secrets/celium-key",
    },
    "off": {"enable": False},
}


@pytest.fixture(scope="module")
def nix(tmp_path_factory: pytest.TempPathFactory) -> Nix:
    """The project in a store of its own."""
    return Nix.prepared(tmp_path_factory.mktemp("nixos"))


@pytest.fixture(scope="module")
def documented(nix: Nix) -> Path:
    """The flake that the documentation shows."""
    example = re.search(r"^```nix\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert example
    return flake(nix, "documented", example[1])


@pytest.fixture(scope="module")
def cases(nix: Nix) -> Path:
    """A flake with a machine for each set of options; `quotes` has a package that shows what it was given."""
    store = nix.environment["NIX_STORE_DIR"]
    changes = GOOD_CASES | {name: settings for name, (settings, _) in BAD.items()}
    settings = {name: GOOD | change for name, change in changes.items()}
    system = nix.run("eval", "--impure", "--raw", "--expr", "builtins.currentSystem")
    text = f"""
      {{
        outputs = {{ nixpkgs, runner-provisioner, ... }}:
          let
            settings = builtins.fromJSON {in_nix(json.dumps(settings).replace("STORE", store))};
            machine = name: options: nixpkgs.lib.nixosSystem {{
              modules = [
                runner-provisioner.nixosModules.default
                {{
                  nixpkgs.hostPlatform = "{system}";
                  services.runner-provisioner.cleanup = options;
                }}
                (if name != "quotes" then {{ }} else {{ pkgs, ... }}: {{
                  services.runner-provisioner.cleanup.package = pkgs.writeShellApplication {{
                    name = "runner-provisioner";
                    text = "printf '%s\\\\n' \\"$@\\"; env";
                  }};
                }})
              ];
            }};
          in
          {{ machines = builtins.mapAttrs machine settings; }};
        {INPUTS}
      }}
    """
    return flake(nix, "cases", text)


def units(nix: Nix, place: Path, config: str) -> list[Path]:
    """The files of the service and the timer, built."""
    names = (f"{NAME}.service", f"{NAME}.timer")
    return [nix.build(f'{config}.systemd.units."{name}".unit', flake=place) / name for name in names]


def test_documented_machine_has_the_timer(nix: Nix, documented: Path) -> None:
    """The example of the documentation is a machine with the timer and the hardened service that it says."""
    timer = nix.evaluate(f"{WATCH}.systemd.timers.{NAME}", flake=documented)
    assert timer["timerConfig"] == {"OnCalendar": "*-*-* *:17:00", "Persistent": True, "RandomizedDelaySec": "5min"}
    assert timer["wantedBy"] == ["timers.target"]
    service = nix.evaluate(f"{WATCH}.systemd.services.{NAME}", flake=documented)
    config = service["serviceConfig"]
    assert sorted(config["LoadCredential"]) == [
        "github-app-key:/run/secrets/github-app.pem",
        "runpod-key:/run/secrets/runpod-key",
    ]
    assert (config["Type"], config["ProtectSystem"], config["CapabilityBoundingSet"]) == ("oneshot", "strict", "")
    assert all(config[name] for name in ("DynamicUser", "NoNewPrivileges", "ProtectHome", "PrivateTmp"))
    assert set(service["environment"]) == {"HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"}
    assert nix.evaluate(f"{WATCH}.assertions", apply="builtins.all (it: it.assertion)", flake=documented) is True


def test_documentation_names_every_option(nix: Nix, documented: Path) -> None:
    """The page has a row for each option of the module."""
    place = "nixosConfigurations.watch.options.services.runner-provisioner.cleanup"
    options = nix.evaluate(place, apply="builtins.attrNames", flake=documented)
    rows = " ".join(line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `"))
    assert set(options) <= set(re.findall(r"`(\w+)`", rows))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze program")
def test_systemd_knows_every_setting(nix: Nix, documented: Path, tmp_path: Path) -> None:
    """`systemd-analyze` finds nothing unknown in the units, and calls the service well protected."""
    files = [Path(shutil.copy(unit, tmp_path)) for unit in units(nix, documented, WATCH)]
    verified = subprocess.run(["systemd-analyze", "verify", *files], capture_output=True, text=True, check=False)
    complaints = [line for line in verified.stderr.splitlines() if NAME in line]
    assert complaints == []
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(files[0])]
    rated = subprocess.run(command, capture_output=True, text=True, check=False)
    assert rated.returncode == 0, rated.stdout + rated.stderr


def test_good_options_are_accepted(nix: Nix, cases: Path) -> None:
    """An App or a token, a repository or an organisation."""
    found = failures(nix, cases)
    assert {name: found[name] for name in GOOD_CASES} == {name: [] for name in GOOD_CASES}


def test_bad_options_each_give_one_line(nix: Nix, cases: Path) -> None:
    """What cannot be is refused by one message that names the option."""
    found = failures(nix, cases)
    for name, (_, message) in BAD.items():
        assert len(found[name]) == 1, (name, found[name])
        assert message in found[name][0]
        assert "\n" not in found[name][0]


def test_module_does_nothing_unless_enabled(nix: Nix, cases: Path) -> None:
    """Importing the module alone changes nothing."""
    assert nix.evaluate('machines."off".config.systemd.services', apply="builtins.attrNames", flake=cases) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("repo = 1", "The option `config.services.runner-provisioner.cleanup.repo' does not exist"),
        ("runpodKeyFile = ./key", "runpodKeyFile' is not of type `null or string'"),
    ],
    ids=["an option that is none", "a path that would be copied to the store"],
)
def test_wrong_definitions_end_the_evaluation(nix: Nix, tmp_path: Path, change: str, said: str) -> None:
    """A misspelt option, and a secret that would become readable for everybody, are refused."""
    text = f"""
      {{
        outputs = {{ nixpkgs, runner-provisioner, ... }}: {{
          machine = nixpkgs.lib.nixosSystem {{
            modules = [
              runner-provisioner.nixosModules.default
              {{ nixpkgs.hostPlatform = "x86_64-linux"; }}
              {{ services.runner-provisioner.cleanup = {{ enable = true; {change}; }}; }}
            ];
          }};
        }};
        {INPUTS}
      }}
    """
    place = flake(nix, tmp_path.name, text)
    wanted = f"path:{place}#machine.config.systemd.services.{NAME}.serviceConfig.LoadCredential"
    done = nix.attempt("eval", "--json", wanted, flake=place)
    assert done.returncode != 0
    assert said in done.stderr


def test_service_cleans_up(nix: Nix, cases: Path, tmp_path: Path) -> None:
    """The service, run with its credentials as files, looks at both services and finds nothing to end."""
    service, _ = units(nix, cases, 'machines."app id in a file".config')
    with SimulatedWorld(tmp_path / "world", plan=WorldPlan(boot_seconds=0)) as world:
        environment = dict(world.environment)
        (tmp_path / "runpod-key").write_text(environment.pop("RUNPOD_API_KEY") + "\n", "utf-8")
        (tmp_path / "github-app-id").write_text(environment.pop("GITHUB_APP_ID") + "\n", "utf-8")
        shutil.copy(environment.pop("GITHUB_APP_PRIVATE_KEY_PATH"), tmp_path / "github-app-key")
        del environment["GITHUB_REPOSITORY"]
        done = run_service(service, tmp_path, environment)
    assert (done.returncode, done.stdout) == (0, "nothing of ours is there\n"), done.stderr
    assert "octocat/gpu-demo" in done.stderr


def test_arguments_and_credentials_arrive_as_written(nix: Nix, cases: Path, tmp_path: Path) -> None:
    """Arguments are not read by the shell, and each credential becomes the variable that the program knows."""
    service, _ = units(nix, cases, "machines.quotes.config")
    (tmp_path / "runpod-key").write_text("rpa_PLANTED\n", "utf-8")
    (tmp_path / "prime-key").write_text("pit_PLANTED\n", "utf-8")
    (tmp_path / "celium-key").write_text("sk_PLANTED\n", "utf-8")
    (tmp_path / "github-app-key").write_text("PEM", "utf-8")
    done = run_service(service, tmp_path, {})
    lines = done.stdout.splitlines()
    wanted = ["cleanup", "--repository", "octocat/gpu-demo", "--owner", QUOTES, "--dry-run"]
    assert (done.returncode, lines[: len(wanted)]) == (0, wanted), done.stderr
    assert {
        "RUNPOD_API_KEY=rpa_PLANTED",
        "PRIME_API_KEY=pit_PLANTED",
        f"PRIME_TEAM_ID={QUOTES}",
        "CELIUM_API_KEY=sk_PLANTED",
        "GITHUB_APP_ID=12345",
        f"GITHUB_APP_PRIVATE_KEY_PATH={tmp_path}/github-app-key",
    } <= set(lines)
    assert not (tmp_path / "x").exists()


def test_missing_credential_ends_the_service(nix: Nix, cases: Path, tmp_path: Path) -> None:
    """A credential that systemd did not hand over is a failure, never an empty variable."""
    service, _ = units(nix, cases, "machines.token.config")
    (tmp_path / "runpod-key").write_text("rpa_PLANTED\n", "utf-8")
    done = run_service(service, tmp_path, {})
    assert done.returncode != 0
    assert "github-token" in done.stderr


@pytest.mark.skipif(shutil.which("shellcheck", path=str(Path(sys.executable).parent)) is None, reason="no shellcheck")
def test_scripts_pass_shellcheck(nix: Nix, cases: Path) -> None:
    """The real writeShellApplication refuses what shellcheck complains about, which the imitation does not."""
    scripts = []
    for name in ("app", "token", "app id in a file"):
        service, _ = units(nix, cases, f'machines."{name}".config')
        start = re.search(r"^ExecStart=(\S+)$", service.read_text("utf-8"), re.MULTILINE)
        assert start
        scripts.append(start[1])
    shellcheck = Path(sys.executable).parent / "shellcheck"
    checked = subprocess.run([shellcheck, *scripts], capture_output=True, text=True, check=False)
    assert checked.stdout == ""
