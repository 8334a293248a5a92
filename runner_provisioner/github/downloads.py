"""Where the runner's program lies: what GitHub says for this account, else a pinned release."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runner_provisioner.domain.runners import RunnerDownload
from runner_provisioner.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runner_provisioner.github.fields import Fields

_RELEASES = "https://github.com/actions/runner/releases/download"
# Checksums from the notes of the releases v2.338.0 and v2.337.0 of actions/runner.
_PINNED = {
    "x64": ("2.338.0", "af4b794c1bc41d73d40535e3fe092a39f9679cd8d965954c2aca25a05ca41d32"),
    "arm64": ("2.337.0", "9b1dc70626422526e3c94767cf024896beb15da5342a3f4819bf2feac13e0393"),
}
_FILE = re.compile(r"actions-runner-linux-(?:x64|arm64)-(\d+\.\d+\.\d+)\.tar\.gz")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


def pinned(architecture: str) -> RunnerDownload:
    """The release this program was made with; InvalidRequest for an architecture that GPU pods do not have."""
    known = _PINNED.get(architecture)
    if known is None:
        raise InvalidRequest(f"no runner is known for Linux on '{architecture}': use {' or '.join(_PINNED)}")
    version, sha256 = known
    url = f"{_RELEASES}/v{version}/actions-runner-linux-{architecture}-{version}.tar.gz"
    return RunnerDownload(version=version, url=url, sha256=sha256, architecture=architecture)


def chosen(offered: Iterable[Fields], architecture: str) -> RunnerDownload | None:
    """The one for Linux on this architecture; None when it is not offered, or without a checksum to verify it by."""
    for download in offered:
        if (download.text("os"), download.text("architecture")) != ("linux", architecture):
            continue
        version = _FILE.fullmatch(download.text("filename"))
        sha256 = download.text_or_none("sha256_checksum") or ""
        if version and _SHA256.fullmatch(sha256):
            url = download.text("download_url")
            return RunnerDownload(version=version[1], url=url, sha256=sha256.lower(), architecture=architecture)
    return None
