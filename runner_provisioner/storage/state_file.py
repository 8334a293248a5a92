"""The state file of one start: what makes a second start of the same job a repetition and not a stranger.

It holds no secret. Several processes may share it: each keeps its own creates in it, under a lock.
"""

from __future__ import annotations

import fcntl
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from runner_provisioner._files import write_private
from runner_provisioner.domain.leases import Lease, Phase, PodRef
from runner_provisioner.domain.names import RunKey
from runner_provisioner.domain.pods import Pod, PodId
from runner_provisioner.errors import Stopped, StoreError

VERSION = 1
_LABEL = re.compile(r"rp-[a-z]{26}")
_NONCE = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Creates:
    """What one process has created and ended."""

    made: frozenset[PodRef] = frozenset()
    ended: frozenset[PodRef] = frozenset()
    unsure: bool = False
    placed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The contents of the file; `host_keys` are those that pods showed at first sight, by the pods' ids."""

    name: str
    scope: str
    label: str
    nonce: str
    creators: dict[str, Creates] = field(default_factory=dict)
    host_keys: dict[str, str] = field(default_factory=dict)


class StateFile:
    """A LeaseStore of one lease's name."""

    def __init__(self, path: Path, *, creator: str) -> None:
        """`creator` is this process's own mark."""
        self.path = path
        self._creator = creator
        self._saved: Creates | None = None
        self._made_file = False
        self._used = False

    @classmethod
    def begin(cls, path: Path, record: Record, *, creator: str) -> tuple[Self, Record, bool]:
        """Open or make the file; gives it, what it says, and whether it was there before. Raises StoreError."""
        store = cls(path, creator=creator)
        with store._locked():
            existing = store._read()
            shared = existing or record
            # Whoever takes part is in it, so that no other one removes it as its own.
            store._write(replace(shared, creators={**shared.creators, creator: Creates()}))
        store._made_file = existing is None
        return store, existing or record, existing is not None

    def read(self) -> Record | None:
        """What the file says; None when there is none. Raises StoreError when it cannot be understood."""
        return self._read()

    def save(self, lease: Lease) -> Lease:
        """Keep this process's part; gives the lease back with the ends that others have asked for, and their pods.

        Raises Stopped when the file is gone, also when there is nothing new to keep: that is how a start learns of it.
        """
        mine = Creates(made=lease.made, ended=lease.ended, unsure=_open(lease), placed_at=lease.placed_at)
        if not self.is_there():
            raise self._gone()
        if mine == self._saved:
            return replace(lease, siblings=self._siblings(self._read()))
        with self._locked():
            record = self._read()
            if record is None:
                raise self._gone()
            record = replace(record, creators={**record.creators, self._creator: mine})
            self._write(record)
        self._saved = mine
        self._used = self._used or mine != Creates()
        ended = lease.ended.union(*(one.ended for one in record.creators.values()))
        return replace(lease, ended=ended, siblings=self._siblings(record))

    def _siblings(self, record: Record | None) -> frozenset[PodRef]:
        if record is None:
            raise self._gone()
        return frozenset().union(*(one.made for name, one in record.creators.items() if name != self._creator))

    def pin(self, pod_id: PodId, host_key: str) -> str:
        """Keep a pod's host key unless one is kept; gives the one that is. Raises Stopped when the file is gone."""
        if not self.is_there():
            raise self._gone()
        with self._locked():
            record = self._read()
            if record is None:
                raise self._gone()
            if pod_id not in record.host_keys:
                self._write(replace(record, host_keys={**record.host_keys, pod_id: host_key}))
        return record.host_keys.get(pod_id, host_key)

    def forget_unused(self) -> None:
        """Remove the file that this process made, unless a create was sent or others share it. Raises StoreError."""
        if not self._made_file or self._used:
            return
        with self._locked():
            record = self._read()
            if record is not None and set(record.creators) <= {self._creator}:
                self.forget()

    def forget(self) -> None:
        """Remove the file; that there is none is fine. Raises StoreError."""
        try:
            self.path.unlink(missing_ok=True)
            self._lock_path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"state file {self.path} cannot be removed: {error.strerror}") from error

    def is_there(self) -> bool:
        """Whether somebody has made the file. Raises StoreError where that cannot be seen."""
        try:
            self.path.stat()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StoreError(f"state file {self.path} cannot be read: {error.strerror}") from error
        return True

    def _gone(self) -> Stopped:
        return Stopped(f"this start was stopped: a 'stop' of its run has removed its state file {self.path}")

    @property
    def _lock_path(self) -> Path:
        return self.path.with_suffix(".lock")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._lock_path.open("a") as lock:
                self._lock_path.chmod(0o600)
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise StoreError(
                f"state file {self.path} cannot be used: {error.strerror}; free the disk or the folder"
            ) from error

    def _read(self) -> Record | None:
        try:
            return _decode(json.loads(self.path.read_bytes()))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"state file {self.path} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(
                f"state file {self.path} is damaged: end this run's pods with 'stop', remove the file, start again"
            ) from error

    def _write(self, record: Record) -> None:
        write_private(self.path, json.dumps(_encode(record), indent=1).encode())


class PinnedKeys:
    """`ports.HostKeys`, in the state files of a folder: they go with what they are of."""

    def __init__(self, folder: Path) -> None:
        """`folder` is where the state files are."""
        self._folder = folder

    def known(self, pod: Pod) -> str | None:
        """See the port."""
        record = self.record_of(pod)
        return record.host_keys.get(pod.id) if record is not None else None

    def pin(self, pod: Pod, host_key: str) -> str:
        """See the port; only the pod of a start has a state file."""
        return StateFile(self._path(pod), creator="").pin(pod.id, host_key)

    def record_of(self, pod: Pod) -> Record | None:
        """What is kept of the start that rented the pod, by its name. Raises StoreError."""
        return StateFile(self._path(pod), creator="").read() if RunKey.parse(pod.name) is not None else None

    def _path(self, pod: Pod) -> Path:
        return self._folder / f"{pod.name}.json"


class Forgetting:
    """The LeaseStore of a stop: it removes what a start has kept, so that one under way learns that it was stopped.

    That happens before the start's pod is asked to end, so that the start does not take the end for a failure.
    """

    def __init__(self, folder: Path) -> None:
        """`folder` is where the state files are."""
        self._folder = folder
        self.forgotten: set[str] = set()
        self.trouble: StoreError | None = None

    def save(self, lease: Lease) -> Lease:
        """Remove the file of its name; a failure is kept in `trouble`, since ending things goes on."""
        file = StateFile(self._folder / f"{lease.name}.json", creator="")
        try:
            if file.is_there():
                file.forget()
                self.forgotten.add(lease.name)
        except StoreError as error:
            self.trouble = error
        return lease


def resume(record: Record, *, creator: str, deadline: datetime, lease: Lease) -> Lease:
    """The lease with all that earlier processes left in the record."""
    others = record.creators.values()
    placed = [one.placed_at for one in others if one.placed_at is not None]
    return replace(
        lease,
        name=record.name,
        phase=Phase.REQUESTED,
        nonce=record.nonce,
        creator=creator,
        deadline=deadline,
        inherited=frozenset().union(*(one.made for one in others)),
        ended=frozenset().union(*(one.ended for one in others)),
        unsure=any(one.unsure for one in others),
        placed_at=max(placed, default=None),
    )


def _open(lease: Lease) -> bool:
    return lease.unsure and lease.phase is not Phase.RELEASED


def _encode(record: Record) -> dict[str, Any]:
    return {
        "version": VERSION,
        "name": record.name,
        "scope": record.scope,
        "label": record.label,
        "nonce": record.nonce,
        "creators": {
            creator: {
                "made": sorted(map(list, one.made)),
                "ended": sorted(map(list, one.ended)),
                "unsure": one.unsure,
                "placed_at": one.placed_at.isoformat() if one.placed_at else None,
            }
            for creator, one in record.creators.items()
        },
        "host_keys": record.host_keys,
    }


def _decode(raw: dict[str, Any]) -> Record:
    if raw["version"] != VERSION:
        raise ValueError(raw["version"])
    name = str(raw["name"])
    if RunKey.parse(name) is None:
        raise ValueError(name)
    return Record(
        name=name,
        scope=str(raw["scope"]),
        label=_formed(_LABEL, raw["label"]),
        nonce=_formed(_NONCE, raw["nonce"]),
        creators={
            str(creator): Creates(
                made=_refs(one["made"]),
                ended=_refs(one["ended"]),
                unsure=bool(one["unsure"]),
                placed_at=datetime.fromisoformat(one["placed_at"]) if one["placed_at"] else None,
            )
            for creator, one in raw["creators"].items()
        },
        host_keys={str(pod): str(key) for pod, key in raw.get("host_keys", {}).items()},
    )


def _formed(form: re.Pattern[str], raw: object) -> str:
    text = str(raw)
    if not form.fullmatch(text):
        raise ValueError(text)
    return text


def _refs(raw: list[list[str]]) -> frozenset[PodRef]:
    return frozenset(PodRef(str(provider), PodId(str(pod))) for provider, pod in raw)
