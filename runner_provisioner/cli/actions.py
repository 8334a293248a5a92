"""The files through which a step talks to its workflow."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from runner_provisioner.errors import StoreError


def write_outputs(path: Path, outputs: Mapping[str, str]) -> None:
    """Append outputs; a random delimiter keeps a value from ending its own text. Raises StoreError."""
    delimiter = f"end-{secrets.token_hex(16)}"
    text = "".join(f"{name}<<{delimiter}\n{value}\n{delimiter}\n" for name, value in outputs.items())
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise StoreError(f"GITHUB_OUTPUT ({path}) cannot be written: {error.strerror}") from error
