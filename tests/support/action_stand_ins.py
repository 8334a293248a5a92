"""Stand-ins for actions of others, as far as workflows here use them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from support.action_runner import HostedJob, StandIn

from runner_provisioner.simulators.workflow import WorkflowError


@dataclass(frozen=True, slots=True, kw_only=True)
class Cached:
    """A saved cache; one of another path is not found, as at GitHub, where the path is part of its version."""

    key: str
    path: str
    place: Path


class Shelf:
    """What lasts longer than a job: the repository's files, artifacts and caches."""

    def __init__(self, folder: Path, *, tree: Path | None = None) -> None:
        """`tree` is what is checked out."""
        self._folder = folder
        self._tree = tree
        self.caches: list[Cached] = []
        """What was saved, oldest first."""

    @property
    def stand_ins(self) -> Mapping[str, StandIn]:
        """By the name of the action."""
        return {
            "actions/checkout": self._checkout,
            "actions/cache": self._cache,
            "actions/cache/restore": self._restore,
            "actions/cache/save": self._save,
            "actions/upload-artifact": self._upload,
            "actions/download-artifact": self._download,
            "actions/setup-python": _nothing,
            "astral-sh/setup-uv": _setup_uv,
        }

    def _checkout(self, job: HostedJob, inputs: Mapping[str, str]) -> Mapping[str, str]:
        if self._tree is None:
            return {}
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=self._tree, capture_output=True, check=True
        )
        for name in listed.stdout.decode().split("\0"):
            source = self._tree / name
            if name and source.is_file():
                target = job.workspace / inputs.get("path", "") / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
        return {}

    def _cache(self, job: HostedJob, inputs: Mapping[str, str]) -> Mapping[str, str]:
        """Restores; what it would save at the job's end is kept at once."""
        place = self._place("caches", inputs["key"])
        found = place.exists()
        if found:
            shutil.copytree(place, _inside(job, inputs["path"]), dirs_exist_ok=True)
        return {"cache-hit": str(found).lower()}

    def _restore(self, job: HostedJob, inputs: Mapping[str, str]) -> Mapping[str, str]:
        """The cache of that key, else the newest whose key begins as one of `restore-keys` does, of the same path."""
        prefixes = [inputs["key"], *inputs.get("restore-keys", "").splitlines()]
        kept = [one for one in self.caches if one.path == _portable(job, inputs["path"])]
        fits = [one for prefix in prefixes for one in reversed(kept) if prefix and one.key.startswith(prefix)]
        if not fits:
            return {"cache-hit": "", "cache-matched-key": ""}
        shutil.copytree(fits[0].place, _inside(job, inputs["path"]), dirs_exist_ok=True)
        return {"cache-hit": str(fits[0].key == inputs["key"]).lower(), "cache-matched-key": fits[0].key}

    def _save(self, job: HostedJob, inputs: Mapping[str, str]) -> Mapping[str, str]:
        """Keep it under that key; a key that is taken, or a path that is not there, is a warning."""
        source = _inside(job, inputs["path"])
        if not source.exists() or any(one.key == inputs["key"] for one in self.caches):
            job.log.annotate("warning", f"Failed to save {inputs['key']}")
            return {}
        place = self._place("caches", inputs["key"])
        shutil.copytree(source, place)
        self.caches.append(Cached(key=inputs["key"], path=_portable(job, inputs["path"]), place=place))
        return {}

    def _upload(self, job: HostedJob, inputs: Mapping[str, str]) -> Mapping[str, str]:
        source = _inside(job, inputs["path"])
        place = self._place("artifacts", inputs.get("name", "artifact"))
        if place.exists():
            raise WorkflowError(f"an artifact {inputs.get('name', 'artifact')} is there already")
        if source.is_dir():
            shutil.copytree(source, place)
        else:
            place.mkdir(parents=True)
            shutil.copy2(source, place)
        return {}

    def _download(self, job: HostedJob, inputs: Mapping[str, str]) -> Mapping[str, str]:
        place = self._place("artifacts", inputs.get("name", "artifact"))
        if not place.exists():
            raise WorkflowError(f"there is no artifact {inputs.get('name', 'artifact')}")
        shutil.copytree(place, _inside(job, inputs.get("path", ".")), dirs_exist_ok=True)
        return {}

    def _place(self, kind: str, name: str) -> Path:
        return self._folder / kind / hashlib.sha256(name.encode()).hexdigest()[:16]


def _inside(job: HostedJob, path: str) -> Path:
    place = (job.workspace / path).resolve()
    if not place.is_relative_to(job.workspace.resolve()) and not place.is_relative_to(job.temp.resolve()):
        raise WorkflowError(f"{path} is outside the job's folders")
    return place


def _portable(job: HostedJob, path: str) -> str:
    """The path as it is on every machine of GitHub's, which all have the same folders."""
    return path.replace(str(job.temp), "/home/runner/work/_temp")


def _nothing(_job: HostedJob, _inputs: Mapping[str, str]) -> Mapping[str, str]:
    return {}


def _setup_uv(job: HostedJob, _inputs: Mapping[str, str]) -> Mapping[str, str]:
    found = shutil.which("uv", path=os.environ.get("PATH"))
    if found is None:
        raise WorkflowError("there is no uv on this machine")
    folder = job.temp / "uv-bin"
    folder.mkdir(exist_ok=True)
    (folder / "uv").symlink_to(found)
    job.path.insert(0, str(folder))
    return {"uv-path": str(folder / "uv")}
