"""What the documentation says that each provider can do, held against its adapter."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from runner_provisioner import ports
from runner_provisioner._http import CallMetrics, Pace, Plumbing, Tempo
from runner_provisioner.accounts import names, plugins
from runner_provisioner.logging import Redactor
from runner_provisioner.ports import EndsFromInside, GpuProvider, has_kill_time
from runner_provisioner.providers.plugin import Account
from runner_provisioner.testing.clock import FakeClock
from runner_provisioner.wiring import close

DOCS = Path(__file__).resolve().parents[2] / "docs"
TABLE = (DOCS / "reference" / "providers.md").read_text("utf-8")
CAPABILITIES: Mapping[str, type] = {
    name: one for name, one in vars(ports).items() if getattr(one, "_is_runtime_protocol", False)
}


def rows(head: str) -> dict[str, list[str]]:
    """The table of the page that begins with this cell: the other cells of each row, by its first."""
    lines = TABLE.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith(f"| {head} |"))
    found: dict[str, list[str]] = {}
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        first, *others = [cell.strip() for cell in line.strip("|").split("|")]
        found[first.strip("`")] = others
    return found


def says() -> dict[tuple[str, str], bool]:
    """Whether the provider has the capability, by both their names."""
    table = rows("capability")
    columns = [cell.strip("`") for cell in table.pop("capability")[1:]]
    told = {}
    for capability in CAPABILITIES:
        cells = table.get(capability, ["", *([""] * len(columns))])[1:]
        for name, cell in zip(columns, cells, strict=True):
            word = re.match(r"yes|no", cell)
            assert word, f"{capability} of {name}: neither yes nor no in docs/reference/providers.md"
            told[capability, name] = word[0] == "yes"
    return told


@pytest.fixture
async def built(tmp_path: Path) -> AsyncIterator[Mapping[str, GpuProvider]]:
    """Every provider of this package, as a user's key makes it; nothing is sent."""
    clock = FakeClock()
    plumbing = Plumbing(
        clock=clock, redactor=Redactor(), tempo=Tempo(), metrics=CallMetrics(), user_agent="test", transport=None
    )
    pace = Pace(per_second=1, per_minute=1)
    account = Account(credential="key", source="a test", cache_dir=tmp_path, pace=pace)
    found = {one.name: one.build(account, plumbing) for one in plugins(["runpod", "prime", "celium"])}
    yield found
    await close(found)


async def test_the_table_of_capabilities_says_what_the_adapters_can(built: Mapping[str, GpuProvider]) -> None:
    """Each protocol of the ports, at each provider: kill time and the end from inside by what they answer."""
    assert set(built) <= set(names())
    can = {
        (capability, name): isinstance(one, protocol)
        for capability, protocol in CAPABILITIES.items()
        for name, one in built.items()
    }
    can |= {("HasKillTime", name): has_kill_time(one) for name, one in built.items()}
    can |= {
        ("EndsFromInside", name): isinstance(one, EndsFromInside) and one.ends_from_inside
        for name, one in built.items()
    }
    assert says() == can


def test_the_page_for_new_providers_names_every_capability() -> None:
    """In its own table, so that nobody has to read the ports to find one."""
    page = (DOCS / "contributing" / "add-a-provider.md").read_text("utf-8")
    assert [name for name in CAPABILITIES if f"`{name}`" not in page] == []


async def test_the_page_on_ends_says_the_same_of_kill_times(built: Mapping[str, GpuProvider]) -> None:
    """Its columns are the providers, its rows the layers."""
    page = (DOCS / "reference" / "kill-layers.md").read_text("utf-8")
    cells = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[3:6]]
        for line in page.splitlines()
        if line.startswith("| the ") and line.count("|") == 6
    }
    order = [built[name] for name in ("runpod", "prime", "celium")]
    told = [cell.startswith("yes") for cell in cells["the provider's own kill time"]]
    assert told == [has_kill_time(one) for one in order]
    switches = [cell.startswith("yes") for cell in cells["the switch in the pod"]]
    assert switches == [isinstance(one, EndsFromInside) and one.ends_from_inside for one in order]
