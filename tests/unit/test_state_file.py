"""The file that makes a second start a repetition."""

from __future__ import annotations

import errno
import json
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runner_provisioner.domain.leases import Lease, Phase, PodRef
from runner_provisioner.domain.pods import Pod, PodId, PodState
from runner_provisioner.errors import Stopped, StoreError
from runner_provisioner.storage.state_file import Forgetting, PinnedKeys, Record, StateFile, resume

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
RECORD = Record(name="rp-0123abcd-zz-1-a", scope="https://github.com/o/r", label="rp-" + "a" * 26, nonce="0f1e")
POD = PodRef("runpod", PodId("p1"))
LEASE = Lease(name=RECORD.name, phase=Phase.PLACING, nonce="0f1e")


def test_a_second_start_finds_the_first_ones_label_and_nonce(tmp_path: Path) -> None:
    """Whatever it would have chosen itself."""
    path = tmp_path / "state" / "a.json"
    _store, first, found = StateFile.begin(path, RECORD, creator="one")
    assert not found
    _store, second, found = StateFile.begin(path, replace(RECORD, label="rp-" + "b" * 26, nonce="2"), creator="two")
    assert found
    assert (second.label, second.nonce) == (first.label, first.nonce)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_each_creator_keeps_its_part_and_learns_the_others_ends(tmp_path: Path) -> None:
    """A pod that a sibling has asked to end is not adopted."""
    path = tmp_path / "a.json"
    one, _record, _found = StateFile.begin(path, RECORD, creator="one")
    two, _record, _found = StateFile.begin(path, RECORD, creator="two")
    one.save(replace(LEASE, made=frozenset({POD}), ended=frozenset({POD}), unsure=True, placed_at=NOW))
    merged = two.save(replace(LEASE, unsure=True))
    assert merged.ended == {POD}
    assert merged.made == frozenset()
    assert merged.siblings == {POD}
    record = two.read()
    assert record is not None
    assert set(record.creators) == {"one", "two"}


def test_a_pod_of_a_sibling_is_learned_of_also_when_there_is_nothing_new_to_keep(tmp_path: Path) -> None:
    """Where a pod has no tags nothing else tells whose it is."""
    path = tmp_path / "a.json"
    one, _record, _found = StateFile.begin(path, RECORD, creator="one")
    two, _record, _found = StateFile.begin(path, RECORD, creator="two")
    two.save(LEASE)
    one.save(replace(LEASE, made=frozenset({POD})))
    assert two.save(LEASE).siblings == {POD}
    assert one.save(replace(LEASE, made=frozenset({POD}))).siblings == frozenset()


def test_a_repeated_start_goes_on_from_what_the_dead_one_left(tmp_path: Path) -> None:
    """Its pods are known by id, its unanswered create makes the new lease unsure."""
    path = tmp_path / "a.json"
    store, _record, _found = StateFile.begin(path, RECORD, creator="dead")
    store.save(replace(LEASE, made=frozenset({POD}), unsure=True, placed_at=NOW))
    store, record, _found = StateFile.begin(path, RECORD, creator="next")
    lease = resume(record, creator="next", deadline=NOW + timedelta(minutes=5), lease=LEASE)
    assert (lease.phase, lease.inherited, lease.made, lease.unsure) == (
        Phase.REQUESTED,
        frozenset({POD}),
        frozenset(),
        True,
    )
    assert lease.placed_at == NOW


def test_an_unchanged_lease_is_not_written_again(tmp_path: Path) -> None:
    """A pass each second must not wear the disk."""
    path = tmp_path / "a.json"
    store, _record, _found = StateFile.begin(path, RECORD, creator="one")
    store.save(LEASE)
    before = path.stat().st_ino
    store.save(replace(LEASE, quiet_since=NOW))
    assert path.stat().st_ino == before


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "not json", json.dumps({"version": 2}), json.dumps({"version": 1, "name": "x"})],
    ids=["empty", "list", "object", "text", "newer", "partial"],
)
def test_a_damaged_file_is_one_line_with_a_remedy(tmp_path: Path, text: str) -> None:
    """It never counts as absent: there may be a pod."""
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(StoreError, match=r"damaged.*stop"):
        StateFile.begin(path, RECORD, creator="one")


@pytest.mark.parametrize(
    ("field", "value"),
    [("label", "rp-abc"), ("label", "ubuntu-latest"), ("nonce", "not hex"), ("nonce", ""), ("name", "a pod")],
    ids=["short-label", "foreign-label", "nonce", "no-nonce", "name"],
)
def test_a_file_with_other_values_than_ours_is_damaged(tmp_path: Path, field: str, value: str) -> None:
    """What is in it goes into names and labels."""
    path = tmp_path / "a.json"
    store, _record, _found = StateFile.begin(path, RECORD, creator="one")
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(StoreError, match="damaged"):
        store.read()


def test_an_unused_file_goes_when_the_one_who_made_it_is_alone(tmp_path: Path) -> None:
    """Not after a create, not one that was found, not one that another start takes part in."""
    path = tmp_path / "a.json"
    store, _record, _found = StateFile.begin(path, RECORD, creator="one")
    store.save(replace(LEASE, phase=Phase.REQUESTED))
    store.forget_unused()
    assert list(tmp_path.iterdir()) == []
    store.forget_unused()
    store, _record, _found = StateFile.begin(path, RECORD, creator="one")
    other, _record, _found = StateFile.begin(path, RECORD, creator="two")
    other.forget_unused()
    store.forget_unused()
    assert path.exists()
    store.forget()
    store, _record, _found = StateFile.begin(path, RECORD, creator="one")
    store.save(replace(LEASE, unsure=True, placed_at=NOW))
    store.save(replace(LEASE, placed_at=None))
    store.forget_unused()
    assert path.exists()


def test_a_folder_that_nobody_may_look_into_keeps_no_stop_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root's is to a user: it is said once everything has ended."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "stat", refuse)
    forgetting = Forgetting(tmp_path)
    assert forgetting.save(LEASE) == LEASE
    assert "cannot be read: Permission denied" in str(forgetting.trouble)
    assert forgetting.forgotten == set()


def test_a_vanished_file_stops_the_start(tmp_path: Path) -> None:
    """Without it a pod would have no owner."""
    path = tmp_path / "a.json"
    store, _record, _found = StateFile.begin(path, RECORD, creator="one")
    store.forget()
    store.forget()
    assert store.read() is None
    with pytest.raises(Stopped, match="this start was stopped"):
        store.save(LEASE)


def test_a_start_learns_of_a_stop_also_when_it_has_nothing_new_to_keep(tmp_path: Path) -> None:
    """The stop forgets the file before it ends the pod, and goes on where that cannot be done."""
    path = tmp_path / f"{LEASE.name}.json"
    store, _record, _found = StateFile.begin(path, RECORD, creator="one")
    assert store.save(LEASE) == LEASE
    assert store.save(LEASE) == LEASE
    forgetting = Forgetting(tmp_path)
    assert forgetting.save(LEASE) == LEASE
    assert forgetting.save(LEASE) == LEASE
    assert (forgetting.forgotten, forgetting.trouble) == ({LEASE.name}, None)
    with pytest.raises(Stopped, match="this start was stopped"):
        store.save(LEASE)
    path.mkdir()
    assert forgetting.save(LEASE) == LEASE
    assert "cannot be removed" in str(forgetting.trouble)
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot be read"):
        StateFile(tmp_path / "file" / "a.json", creator="one").save(LEASE)


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """A file where the folder should be."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot be used"):
        StateFile.begin(tmp_path / "file" / "a.json", RECORD, creator="one")
    folder = tmp_path / "folder.json"
    folder.mkdir()
    with pytest.raises(StoreError, match="cannot be read"):
        StateFile(folder, creator="x").read()
    with pytest.raises(StoreError, match="cannot be removed"):
        StateFile(folder, creator="x").forget()


def bare_pod(name: str = RECORD.name, pod_id: str = "p1") -> Pod:
    """A pod whose host key nobody knew beforehand."""
    return Pod(provider="prime", id=PodId(pod_id), name=name, state=PodState.RUNNING)


def test_the_first_host_key_stays(tmp_path: Path) -> None:
    """Whoever pins; each pod has its own, what else is in the file stays, and all goes with the file."""
    path = tmp_path / f"{RECORD.name}.json"
    store, _record, _found = StateFile.begin(path, RECORD, creator="one")
    store.save(replace(LEASE, made=frozenset({POD})))
    pinned = PinnedKeys(tmp_path)
    assert pinned.known(bare_pod()) is None
    assert pinned.pin(bare_pod(), "ssh-ed25519 A") == "ssh-ed25519 A"
    assert pinned.pin(bare_pod(), "ssh-ed25519 B") == "ssh-ed25519 A"
    assert pinned.pin(bare_pod(pod_id="p2"), "ssh-ed25519 B") == "ssh-ed25519 B"
    store.save(replace(LEASE, made=frozenset({POD}), ended=frozenset({POD})))
    assert [pinned.known(bare_pod(pod_id=one)) for one in ("p1", "p2", "p3")] == [
        "ssh-ed25519 A",
        "ssh-ed25519 B",
        None,
    ]
    record = pinned.record_of(bare_pod())
    assert record is not None
    assert (record.label, record.creators["one"].ended) == (RECORD.label, frozenset({POD}))
    store.forget()
    assert pinned.known(bare_pod()) is None
    with pytest.raises(Stopped):
        pinned.pin(bare_pod(), "ssh-ed25519 A")
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_host_keys_is_read(tmp_path: Path) -> None:
    """As an earlier version wrote it."""
    path = tmp_path / f"{RECORD.name}.json"
    StateFile.begin(path, RECORD, creator="one")
    told = json.loads(path.read_text())
    del told["host_keys"]
    path.write_text(json.dumps(told))
    assert PinnedKeys(tmp_path).known(bare_pod()) is None


def test_no_other_file_is_taken_for_a_pods(tmp_path: Path) -> None:
    """Its name may be anybody's choice."""
    (tmp_path / "secret.json").write_text("{}")
    assert PinnedKeys(tmp_path / "x").record_of(bare_pod(name="../secret")) is None
