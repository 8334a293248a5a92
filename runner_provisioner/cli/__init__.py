"""The command line: parse, call, print. Nothing heavy is imported until a command runs."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the program with the process's own arguments and exit with its code."""
    from runner_provisioner.cli.app import run  # noqa: PLC0415 - importing the package must stay cheap

    sys.exit(run(sys.argv[1:]))
