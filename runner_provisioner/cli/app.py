"""The group of commands, each imported when it is called, and what becomes of errors."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from runner_provisioner.errors import ConfigurationError, OutputLost, RunnerProvisionerError

INTERNAL_ERROR = 70  # EX_SOFTWARE
INTERRUPTED = 130

COMMANDS = {
    "start": "Rent a GPU pod and bring one runner for one job online.",
    "stop": "End a run's pod and runner.",
    "watch": "Follow a run's pod, and notice at once when the provider takes it back.",
    "rerun": "Repeat the jobs of a run that lost their machines, on new ones.",
    "cleanup": "End every pod and runner that nothing owns any more.",
    "status": "Show all pods and runners of this owner.",
    "costs": "Show what jobs have cost, and what the money was for.",
    "offers": "Show what could be rented now, in the order it would be tried.",
    "plan": "Show everything that start would do, without spending.",
    "machines": "Show the machines that are kept out because pods on them failed, or let them serve again.",
    "ssh": "Log in to a pod, its host key checked.",
    "exec": "Run a command in a pod.",
    "cp": "Copy files to and from a pod.",
    "logs": "Show the log of the start script and the runner in a pod.",
    "wait": "Wait until a pod can be logged in to, its runner is online, or it has ended.",
    "hand-over": "Give a waiting runner of start --registration jit a new configuration.",
    "info": "Show everything that is known of one pod.",
    "gpu-types": "List the GPU models that the providers know.",
    "pods": "Create, list, stop, resume and end pods by hand.",
    "serve": "Serve pods over HTTP, in the words of three APIs.",
    "keys": "Create, list and revoke keys for the HTTP service.",
    "lint": "Find what breaks or leaks in your workflows.",
    "demo": "Run a workflow's GPU jobs for real on simulated services.",
    "simulate": "Start the simulated services and print how to reach them.",
}


class LazyGroup(click.Group):
    """A group that knows its commands' names and first lines without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """All commands, in the order one meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import the one that is called."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"runner_provisioner.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write the list from the table above: help must not import what it lists."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _show_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
    if not value or ctx.resilient_parsing:
        return
    from importlib.metadata import version  # noqa: PLC0415 - slow, and needed here alone

    click.echo(f"runner-provisioner {version('runner-provisioner')}")
    ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version, help="Show the version."
)
def cli() -> None:
    """Run GitHub Actions jobs on rented GPUs.

    Rents a pod, registers an ephemeral runner in it, lets it run one job and takes everything away again.
    """


def run(arguments: Sequence[str]) -> int:
    """Run the program; returns the exit code. Errors are one line on stderr, a traceback only with --debug."""
    debug = "--debug" in arguments
    _fill_closed_streams()
    try:
        result = cli.main(args=list(arguments), prog_name="runner-provisioner", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        say_error(_for_reader(f"{error.format_message().rstrip('.')} ({_where_to_look(error)})", arguments))
        return ConfigurationError.exit_code
    except BrokenPipeError:
        return _fail(OutputLost("standard output was closed before everything was written"), arguments, debug=debug)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the outermost place: whatever it is, it ends as one line and a code
        return _fail(error, arguments, debug=debug)
    # Without its standalone mode click gives back the code of ctx.exit() instead of raising it.
    return result if isinstance(result, int) else 0


def _where_to_look(error: click.ClickException) -> str:
    from runner_provisioner.cli.inputs import in_action  # noqa: PLC0415 - only when something failed

    if in_action():
        return "action.yml describes the inputs"
    where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "runner-provisioner"
    return f"{where} --help shows what there is"


def _for_reader(message: str, arguments: Sequence[str], error: BaseException | None = None) -> str:
    """The message in the words of whoever gave these arguments: a terminal, or the action for its user."""
    from runner_provisioner.cli.inputs import in_action, with_inputs  # noqa: PLC0415 - only when something failed

    if not in_action():
        return message
    command = cli.get_command(click.Context(cli), arguments[0]) if arguments else None
    return with_inputs(message, command, error)


def _fail(error: BaseException, arguments: Sequence[str], *, debug: bool) -> int:
    from runner_provisioner.cli.session import first  # noqa: PLC0415 - only when something failed

    cause = first(error)
    if isinstance(cause, OutputLost):
        _drop_stdout()
    if debug:
        _print_traceback(error)
    if isinstance(cause, RunnerProvisionerError):
        say_error(_for_reader(str(cause), arguments, cause))
        return cause.exit_code
    say_error(f"internal error, please report it ({type(cause).__name__}): run again with --debug for the details")
    return INTERNAL_ERROR


def _print_traceback(error: BaseException) -> None:
    from runner_provisioner.cli.session import redactor  # noqa: PLC0415 - only for --debug

    click.echo(redactor().redact_exception(error), err=True, nl=False)


def say_error(message: str) -> None:
    """One line on stderr; in Actions an annotation as well."""
    from runner_provisioner.cli.session import redactor  # noqa: PLC0415 - only when something failed
    from runner_provisioner.cli.visible import visible  # noqa: PLC0415 - only when something failed

    line = visible(redactor().redact(" ".join(message.split())))
    click.echo(f"error: {line}", err=True)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        escaped = line.replace("%", "%25")
        click.echo(f"::error title=runner-provisioner::{escaped}", err=True)


def _fill_closed_streams() -> None:
    """Let talk go nowhere when stderr is closed, and keep what is opened later from getting stdout's number."""
    if sys.stdout is None:
        os.open(os.devnull, os.O_WRONLY)  # Session.show still says that the result has no reader
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - lives until the exit


def _drop_stdout() -> None:
    # What reads us has gone: keep the interpreter from failing once more when it flushes at exit.
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - lives until the exit
