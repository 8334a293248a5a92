"""Messages for somebody who uses the action: they name its inputs where a terminal's would name options."""

from __future__ import annotations

import os
import re
from typing import Final

import click

from runner_provisioner.errors import KeyInUse, RunnerGroupInvisible, UnknownGpu

IN_ACTION: Final = "RUNNER_PROVISIONER_IN_ACTION"

_RENAMED: Final = {"--label": "extra-labels"}  # beside the output `label` an input of that name would mislead
_VARIABLES: Final = {
    "RUNPOD_API_KEY": "runpod-api-key",
    "PRIME_API_KEY": "prime-api-key",
    "PRIME_TEAM_ID": "prime-team-id",
    "CELIUM_API_KEY": "celium-api-key",
    "GITHUB_APP_ID": "github-app-id",
    "GITHUB_APP_PRIVATE_KEY": "github-app-private-key",
    "RUNNER_PROVISIONER_GITHUB_TOKEN": "github-token",
}
# What is asked of a service, whose answer names no option.
_ABOUT: Final = {UnknownGpu: "gpu", RunnerGroupInvisible: "runner-group", KeyInUse: "key"}
_NAME: Final = re.compile(r"(?<![\w-])(?:'(--[a-z][a-z-]*)'|(--[a-z][a-z-]*)|([A-Z][A-Z_]+))(?![\w-])")


def in_action() -> bool:
    """Whether the scripts of the action have called this process, as they say in the environment."""
    return os.environ.get(IN_ACTION) == "true"


def with_inputs(message: str, command: click.Command | None, error: BaseException | None = None) -> str:
    """The message with every option of `command`, and every variable of a credential, called by its input.

    One that names neither begins with the input that this kind of `error` is about.
    """
    options = {option for one in (command.params if command is not None else ()) for option in one.opts}

    def named(match: re.Match[str]) -> str:
        option = match[1] or match[2]
        if option in options:
            return f"input '{_RENAMED.get(option, option.removeprefix('--'))}'"
        return f"input '{_VARIABLES[match[3]]}'" if match[3] in _VARIABLES else match[0]

    told = _NAME.sub(named, message)
    about = _ABOUT.get(type(error)) if error is not None else None
    return f"input '{about}': {told}" if about and f"input '{about}'" not in told else told
