"""A fourth provider, in a package of its own that is installed: found by its entry point, held to the shipped suite."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, cast

import httpx
import pytest

from runner_provisioner import accounts, wiring
from runner_provisioner.domain.offers import GpuRequest, Interruptible
from runner_provisioner.errors import ConfigurationError, MissingCredential, UnknownProvider
from runner_provisioner.logging import Redactor
from runner_provisioner.ports import GpuProvider, has_kill_time
from runner_provisioner.providers.http import CallMetrics, Plumbing, Tempo
from runner_provisioner.services.offers import survey
from runner_provisioner.settings import Settings
from runner_provisioner.testing.clock import FakeClock
from runner_provisioner.testing.provider_contract import ProviderContract, ProviderWorld

if TYPE_CHECKING:
    from toy_market.service import ToyService

PACKAGE = Path(__file__).parents[1] / "toy_market"
KEY = "toy-planted-account-key"
URL = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that the package is installed in, importable for these tests alone."""
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    where = ["--no-build-isolation", "--no-index", "--target", str(folder)]
    subprocess.run([*pip, *where, str(PACKAGE)], check=True, capture_output=True)
    sys.path.append(str(folder))
    importlib.invalidate_caches()
    try:
        yield folder
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == "toy_market"]:
            del sys.modules[name]


def settings_of(folder: Path, **environ: str) -> Settings:
    """What a user with a key of Toy Market has set."""
    return Settings.read({"TOY_API_KEY": KEY, "TOY_URL": URL, **environ}, home=folder, cwd=folder)


def plumbing_of(service: ToyService, clock: FakeClock) -> Plumbing:
    """A network on which Toy Market alone answers."""
    return Plumbing(
        clock=clock,
        redactor=Redactor(),
        tempo=Tempo(),
        metrics=CallMetrics(),
        user_agent="test",
        transport=httpx.MockTransport(service.answer),
    )


def new_service(clock: FakeClock) -> ToyService:
    """Toy Market, from the installed package."""
    module = importlib.import_module("toy_market.service")
    return cast("ToyService", module.ToyService(clock))


class ToyWorld(ProviderWorld):
    """The adapter over Toy Market, built as the program builds it."""

    def __init__(self, service: ToyService, clock: FakeClock, provider: GpuProvider) -> None:
        self.service = service
        self.clock = clock
        self.provider = provider
        self.credential = KEY
        self.request = GpuRequest(
            models=("Toy 1000",), count=1, interruptible=Interruptible.PREFER, max_price=Decimal(5)
        )

    def rented(self) -> int:
        """By its own count."""
        return len(self.service.live())

    def run_out_of_stock(self) -> None:
        """Everything is sold."""
        self.service.stock = False

    def lose_next_create_answer(self) -> None:
        """Rented, then the connection is cut."""
        self.service.lose_next = True

    def fail_next_create(self) -> None:
        """A 500."""
        self.service.fail_next = True

    def answer_nonsense(self) -> None:
        """A proxy's page."""
        self.service.nonsense = True

    def revoke_credential(self) -> None:
        """It was rotated."""
        self.service.keys.clear()


@pytest.mark.usefixtures("site")
class TestToyContract(ProviderContract):
    """The suite that every adapter passes."""

    @pytest.fixture
    async def world(self, tmp_path: Path) -> AsyncIterator[ToyWorld]:
        """The adapter as its entry point and the environment make it."""
        clock = FakeClock()
        service = new_service(clock)
        providers = wiring.providers_of(settings_of(tmp_path), plumbing_of(service, clock))
        assert list(providers) == ["toy"]
        yield ToyWorld(service, clock, providers["toy"])
        await wiring.close(providers)


def test_the_installed_package_takes_part_where_its_key_is(site: Path, tmp_path: Path) -> None:
    """By its name; it is not imported for a look at the names."""
    assert accounts.names()[0] == "runpod"
    assert "toy" in accounts.names()
    (market,) = accounts.markets(settings_of(tmp_path))
    assert (market.plugin.title, market.account.source) == ("Toy Market", "TOY_API_KEY")
    assert KEY not in repr(market)
    both = settings_of(tmp_path, RUNPOD_API_KEY="rpa_x")
    assert [one.plugin.name for one in accounts.markets(both)] == ["runpod", "toy"]
    assert [one.plugin.name for one in accounts.markets(both, ["toy"])] == ["toy"]
    assert accounts.secret_of(both) == "rpa_x"
    assert accounts.secret_of(settings_of(tmp_path)) == KEY


def test_a_key_in_dotenv_counts_and_an_address_there_does_not(site: Path, tmp_path: Path) -> None:
    """It would send the key wherever the working folder says."""
    (tmp_path / ".env").write_text("TOY_API_KEY=toy-from-dotenv\nTOY_URL=https://evil.example\n")
    settings = Settings.read({}, home=tmp_path, cwd=tmp_path)
    (market,) = accounts.markets(settings)
    assert (market.account.credential, market.account.source) == ("toy-from-dotenv", "TOY_API_KEY in ./.env")
    assert dict(market.account.values) == {}


def test_without_any_key_all_variables_that_would_do_are_named(site: Path, tmp_path: Path) -> None:
    """And for a provider that was named, its own."""
    settings = Settings.read({}, home=tmp_path, cwd=tmp_path)
    with pytest.raises(MissingCredential, match=r"RUNPOD_API_KEY \(or RUNPOD_KEY\) for RunPod; .*TOY_API_KEY for Toy"):
        accounts.markets(settings)
    with pytest.raises(MissingCredential, match="no Toy Market key found: set TOY_API_KEY"):
        accounts.markets(settings, ["toy"])


@pytest.mark.parametrize(
    ("name", "said"),
    [("toi", "did you mean toy?"), ("Runpods", "did you mean runpod?"), ("vast", "there are runpod")],
    ids=["near", "another case", "far"],
)
def test_an_unknown_provider_is_answered_with_the_nearest(site: Path, tmp_path: Path, name: str, said: str) -> None:
    """Before anything is sent."""
    with pytest.raises(UnknownProvider, match=f"no provider '{name}'") as caught:
        accounts.markets(settings_of(tmp_path), [name])
    assert said in str(caught.value)


async def test_its_offers_stand_on_the_ladder(site: Path, tmp_path: Path) -> None:
    """With a kill time, as it says."""
    clock = FakeClock()
    providers = wiring.providers_of(settings_of(tmp_path), plumbing_of(new_service(clock), clock))
    request = GpuRequest(models=("toy 1000",), count=2, interruptible=Interruptible.PREFER, max_price=Decimal(5))
    found = (await survey(providers, request)).ladder
    assert {one.provider for one in found.rungs} == {"toy"}
    assert has_kill_time(providers["toy"])
    await wiring.close(providers)


def broken(folder: Path, name: str, entry: str, source: str) -> None:
    """A package that names a provider and is not right."""
    (folder / f"{name}.py").write_text(source)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[runner_provisioner.providers]\n{entry}\n")


@pytest.mark.parametrize(
    ("entry", "source", "said"),
    [
        pytest.param("odd = odd_market:PLUGIN", "import no_such_module", "cannot be loaded", id="cannot-be-imported"),
        pytest.param("odd = odd_market:PLUGIN", "raise SystemExit(3)", "cannot be loaded", id="ends-the-program"),
        pytest.param("odd = odd_market:PLUGIN", "PLUGIN = 1", "names no ProviderPlugin", id="no-plug-in"),
        pytest.param("runpod = odd_market:PLUGIN", "PLUGIN = 1", "two packages are the provider", id="somebody-elses"),
    ],
)
def test_a_broken_plug_in_is_said_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, source: str, said: str
) -> None:
    """Nobody can tell whether it has pods, so that nothing goes on without it."""
    broken(tmp_path, "odd_market", entry, source)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigurationError, match=said) as caught:
        accounts.markets(settings_of(tmp_path, RUNPOD_API_KEY="x"))
    assert "odd_market" in str(caught.value)
    sys.modules.pop("odd_market", None)


def test_a_broken_plug_in_does_not_stand_before_another_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pod there must be to be ended."""
    broken(tmp_path, "odd_market", "odd = odd_market:PLUGIN", "import no_such_module")
    monkeypatch.syspath_prepend(str(tmp_path))
    (found,) = accounts.markets(settings_of(tmp_path, RUNPOD_API_KEY="x"), ["runpod"])
    assert found.plugin.name == "runpod"


_FAILS = """
from runner_provisioner.providers.plugin import ProviderPlugin
def build(account, plumbing):
    raise ValueError(account.credential)
PLUGIN = ProviderPlugin(name="odd", title="Odd", credentials=("ODD_KEY",), build=build)
"""


def test_a_plug_in_that_fails_when_it_is_built_is_said_without_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what to look at."""
    broken(tmp_path, "odd_market", "odd = odd_market:PLUGIN", _FAILS)
    monkeypatch.syspath_prepend(str(tmp_path))
    clock = FakeClock()
    plumbing = Plumbing(clock=clock, redactor=Redactor(), tempo=Tempo(), metrics=CallMetrics(), user_agent="test")
    with pytest.raises(ConfigurationError, match=r"'odd' cannot be set up \(ValueError\): check ODD_KEY") as caught:
        wiring.providers_of(settings_of(tmp_path, ODD_KEY="odd-secret"), plumbing, ["odd"])
    assert "odd-secret" not in str(caught.value)
    sys.modules.pop("odd_market", None)


@pytest.mark.full
@pytest.mark.timeout(300)
def test_the_page_for_new_providers_works_as_it_is_written(tmp_path: Path) -> None:
    """Its files, beside a copy of the adapter and the service, are a package that is found and passes the suite."""
    page = (PACKAGE.parents[1] / "docs" / "contributing" / "add-a-provider.md").read_text("utf-8")
    (project,) = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    plugin, suite = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    folder, target = tmp_path / "toy", tmp_path / "site"
    shutil.copytree(PACKAGE / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests").mkdir()
    (folder / "pyproject.toml").write_text(project)
    (folder / "src" / "toy_market" / "__init__.py").write_text(plugin)
    (folder / "tests" / "test_toy.py").write_text(suite)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    where = ["--no-build-isolation", "--no-index", "--target", str(target), str(folder)]
    subprocess.run([*pip, *where], check=True, capture_output=True)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(target)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", *arguments]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)

    found = run("runner_provisioner", "pods", "list", "--provider", "toy")
    assert (found.returncode, "no Toy Market key found: set TOY_API_KEY" in found.stderr) == (3, True)
    suite_run = run("pytest", "-q", "-p", "no:cacheprovider", "tests")
    assert suite_run.returncode == 0, suite_run.stdout


def test_without_any_provider_installed_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a broken installation."""
    monkeypatch.setattr(accounts, "_points", lambda _path: ())
    with pytest.raises(UnknownProvider, match="none is installed"):
        accounts.plugins(["runpod"])
