"""The files of one step: what it tells its runner, and how the runner reads that."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runner_provisioner.simulators.demo.files import read_pairs

NAMES = {
    "GITHUB_OUTPUT": "set_output",
    "GITHUB_ENV": "set_env",
    "GITHUB_PATH": "add_path",
    "GITHUB_STATE": "save_state",
    "GITHUB_STEP_SUMMARY": "step_summary",
}
MOST_SUMMARY = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFiles:
    """Five empty files made for one step."""

    paths: dict[str, Path]

    @classmethod
    def make(cls, folder: Path, mark: str) -> StepFiles:
        """Make them in `folder`, `mark` in their names."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = {name: folder / f"{stem}_{mark}" for name, stem in NAMES.items()}
        for path in paths.values():
            path.touch()
        return cls(paths=paths)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that name them."""
        return {name: str(path) for name, path in self.paths.items()}

    def _text(self, name: str) -> str:
        return self.paths[name].read_text("utf-8")

    @property
    def outputs(self) -> dict[str, str]:
        """What was set; ValueError when the file is malformed."""
        return read_pairs(self._text("GITHUB_OUTPUT"))

    @property
    def env(self) -> dict[str, str]:
        """Variables for the steps that follow; ValueError when the file is malformed."""
        return read_pairs(self._text("GITHUB_ENV"))

    @property
    def path(self) -> list[str]:
        """Folders to go in front of PATH, the last one first."""
        return [line for line in reversed(self._text("GITHUB_PATH").splitlines()) if line]

    @property
    def summary(self) -> str:
        """Its page; nothing where there is too much of it, as at GitHub."""
        text = self._text("GITHUB_STEP_SUMMARY")
        return text if len(text.encode()) <= MOST_SUMMARY else ""
