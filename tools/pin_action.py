#!/usr/bin/env python3
"""Write what the reusable workflows and the examples call this project's own action by.

`uses:` takes no expressions, so the name stands in several files; it is decided in .github/action-slug alone.

    python tools/pin_action.py                                    # write .github/action-slug into every file
    python tools/pin_action.py acme/runner_provisioner            # decide it; the tag is that of the version
    python tools/pin_action.py acme/runner_provisioner@v2
    python tools/pin_action.py --check                            # exit code 1 when a file says something else
    python tools/pin_action.py --check acme/runner_provisioner@v2 # or when it is not this name, as a release asks
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SLUG = ROOT / ".github" / "action-slug"
PLACES = (
    ".github/workflows/*.yml",
    ".github/zizmor.yml",
    "examples/*.yml",
    "docs/**/*.md",
)
_NAME = re.compile(r"[A-Za-z0-9-]+/runner[-_]provisioner")
_SLUG = re.compile(rf"{_NAME.pattern}@v\d+")
_VERSION = re.compile(r'^version = "(\d+)\.', re.MULTILINE)
_CALL = re.compile(r"(uses: )[A-Za-z0-9-]+/runner[-_]provisioner((?:/[\w./-]+)?)@v\d+")
_POLICY = re.compile(r"^( +)[A-Za-z0-9-]+/runner[-_]provisioner(/\*)?(: ref-pin)$", re.MULTILINE)


def pinned(text: str, slug: str) -> str:
    """The text of a file with every call of the action by `slug` (OWNER/NAME@vMAJOR)."""
    name, _, tag = slug.partition("@")
    text = _CALL.sub(lambda call: f"{call[1]}{name}{call[2]}@{tag}", text)
    return _POLICY.sub(lambda line: f"{line[1]}{name}{line[2] or ''}{line[3]}", text)


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Write, or with --check only compare; the exit code."""
    check = "--check" in arguments
    given = [one for one in arguments if one != "--check"]
    place = root / SLUG.relative_to(ROOT)
    slug = given[0] if given else place.read_text("utf-8").strip()
    if _NAME.fullmatch(slug):
        slug = f"{slug}@v{_major(root)}"
    if len(given) > 1 or not _SLUG.fullmatch(slug):
        sys.stderr.write(f"error: {' '.join(given) or slug}: write OWNER/runner_provisioner@vMAJOR\n")
        return 2
    wanted = {file: pinned(file.read_text("utf-8"), slug) for glob in PLACES for file in sorted(root.glob(glob))}
    wanted[place] = f"{slug}\n"
    changed = [file for file, text in wanted.items() if file.read_text("utf-8") != text]
    for file in changed:
        sys.stdout.write(f"{'differs' if check else 'written'}: {file.relative_to(root)}\n")
        if not check:
            file.write_text(wanted[file], "utf-8")
    if check and changed:
        sys.stderr.write(f"error: run 'python tools/pin_action.py {slug}', commit what it wrote, and tag that commit\n")
        return 1
    return 0


def _major(root: Path) -> str:
    found = _VERSION.search((root / "pyproject.toml").read_text("utf-8"))
    if found is None:
        raise SystemExit('error: pyproject.toml has no version: write version = "MAJOR.MINOR.PATCH"')
    return found[1]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
