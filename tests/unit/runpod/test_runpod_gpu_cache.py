"""GPU models are kept for an hour, in a file of the user's own, and never at any price."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from runner_provisioner.domain.offers import GpuType
from runner_provisioner.providers.runpod.gpu_cache import FILE_NAME, GpuCache
from runner_provisioner.testing.clock import FakeClock

GPU = GpuType(id="G", name="g", memory_gb=24, secure=True, community=False)


def test_what_was_saved_is_loaded_for_an_hour(tmp_path: Path, clock: FakeClock) -> None:
    """A new process sees it too; a minute after the hour it is gone."""
    GpuCache(tmp_path / "new", url="u", clock=clock).save([GPU])
    again = GpuCache(tmp_path / "new", url="u", clock=clock)
    clock.advance(3599)
    assert again.load() == (GPU,)
    clock.advance(1)
    assert again.load() is None


def test_the_file_is_private(tmp_path: Path, clock: FakeClock) -> None:
    """Mode 0600."""
    GpuCache(tmp_path, url="u", clock=clock).save([GPU])
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600


def test_each_address_has_an_entry_of_its_own(tmp_path: Path, clock: FakeClock) -> None:
    """A simulator's models never pass for the real ones; what is too old goes."""
    GpuCache(tmp_path, url="old", clock=clock).save([GPU])
    clock.advance(3000)
    GpuCache(tmp_path, url="one", clock=clock).save([GPU])
    clock.advance(1000)
    GpuCache(tmp_path, url="two", clock=clock).save([])
    assert GpuCache(tmp_path, url="one", clock=clock).load() == (GPU,)
    assert GpuCache(tmp_path, url="two", clock=clock).load() == ()
    assert GpuCache(tmp_path, url="three", clock=clock).load() is None
    assert set(json.loads((tmp_path / FILE_NAME).read_text())) == {"one", "two"}


NOW = "2026-11-01T12:00:00Z"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        json.dumps({"u": 7}).encode(),
        json.dumps({"u": {"fetched_at": "soon", "gpu_types": []}}).encode(),
        json.dumps({"u": {"fetched_at": "2026-11-02T12:00:00Z", "gpu_types": []}}).encode(),
        json.dumps({"u": {"fetched_at": NOW}}).encode(),
        json.dumps({"u": {"fetched_at": NOW, "gpu_types": [{"id": "G", "odd": 1}]}}).encode(),
        json.dumps({"u": {"fetched_at": NOW, "gpu_types": 7}}).encode(),
    ],
    ids=["empty", "cut", "list", "binary", "entry", "time", "future", "no-types", "other-fields", "number"],
)
def test_a_corrupted_cache_is_ignored_and_replaced(tmp_path: Path, clock: FakeClock, content: bytes) -> None:
    """Nobody has to delete a file by hand."""
    (tmp_path / FILE_NAME).write_bytes(content)
    cache = GpuCache(tmp_path, url="u", clock=clock)
    assert cache.load() is None
    cache.save([GPU])
    assert cache.load() == (GPU,)


def test_a_disk_that_refuses_is_done_without(tmp_path: Path, clock: FakeClock) -> None:
    """A file where the folder should be: nothing is kept, nothing fails."""
    (tmp_path / "file").write_text("in the way")
    cache = GpuCache(tmp_path / "file", url="u", clock=clock)
    cache.save([GPU])
    assert cache.load() is None


def test_without_a_folder_nothing_is_kept(clock: FakeClock) -> None:
    """Some callers have no home."""
    cache = GpuCache(None, url="u", clock=clock)
    cache.save([GPU])
    assert cache.load() is None
