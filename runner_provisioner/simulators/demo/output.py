"""A job's log as a terminal shows it: what GitHub's page folds away is left out."""

from __future__ import annotations

from collections.abc import Iterator

_GROUP, _END, _ERROR = "##[group]", "##[endgroup]", "##[error]"


class Folded:
    """The lines of one job's log, with a heading for each step instead of its script."""

    def __init__(self) -> None:
        """Nothing is folded at first."""
        self._hidden = False

    def shown(self, line: str, steps: tuple[str, ...]) -> Iterator[str]:
        """The line as it is shown, if at all; `steps` are the titles whose groups hold a script."""
        if line.startswith(_GROUP):
            title = line.removeprefix(_GROUP)
            self._hidden = title in steps
            yield f"--- {title}"
        elif line.startswith(_END):
            self._hidden = False
        elif not self._hidden:
            yield line.replace(_ERROR, "error: ", 1) if line.startswith(_ERROR) else line
