"""Which variables a job can be given."""

from __future__ import annotations

import re
from collections.abc import Mapping

from runner_provisioner.errors import InvalidRequest

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OURS = re.compile(
    r"RP_.*|RUNPOD_API_KEY|RUNNER_PROVISIONER|RUNNER_ALLOW_RUNASROOT|ACTIONS_RUNNER_.*|GITHUB_.*|_[a-z]{0,2}",
    re.IGNORECASE,
)
_READ_ONLY = frozenset({"UID", "EUID", "PPID", "BASHOPTS", "SHELLOPTS", "BASH_VERSINFO"})  # bash refuses to set them
# The runner is started by bash with the job's variables, and finds or loads its programs by these.
_FATAL = frozenset({"PATH", "LD_PRELOAD", "BASH_ENV", "ENV", "IFS"})


def check_variables(option: str, variables: Mapping[str, str]) -> None:
    """Raise InvalidRequest, naming the option and no value, for a variable that a job cannot be given."""
    for name, value in variables.items():
        if not _NAME.fullmatch(name):
            raise InvalidRequest(f"{option} {name!r}: a name has the letters A-Z and a-z, digits and underscores")
        if _OURS.fullmatch(name) or name in _READ_ONLY:
            raise InvalidRequest(f"{option} {name!r}: the runner or the shell sets it itself: choose another name")
        if name in _FATAL:
            raise InvalidRequest(
                f"{option} {name!r}: with it the runner itself would not start: set it in the job's steps (for PATH: "
                "append to $GITHUB_PATH) or in the image"
            )
        if "\0" in value:
            raise InvalidRequest(f"{option} {name!r}: its value holds a null character, remove that")
