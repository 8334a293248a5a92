"""`demo`: run a workflow's GPU jobs for real, on simulated services."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from runner_provisioner.cli.session import working_folder
from runner_provisioner.errors import ConfigurationError, InvalidRequest, OutputLost

if TYPE_CHECKING:
    from runner_provisioner.simulators.demo.play import Outcome
    from runner_provisioner.simulators.demo.processes import Say
    from runner_provisioner.simulators.pods.host import PodHost
    from runner_provisioner.simulators.world import SimulatedWorld

EXAMPLE = "gpu-job.yml"
PREFIX_WIDTH = 6
WATCH_SECONDS = 0.1
MARKETS = ("runpod", "runpod-rest", "prime", "celium")  # stands.MARKETS; here --help needs no simulator
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """What is played and how. `workflow` None is the project's own example; times are in seconds."""

    workflow: Path | None = None
    markets: tuple[str, ...] = MARKETS[:1]
    unconfined: bool = False
    boot_seconds: float = 1.0
    spot: bool = False
    interrupt_after: float | None = None
    keep_logs: Path | None = None
    debug: bool = False
    workspace: Path | None = None


market_option = click.option(
    "--provider",
    "markets",
    type=click.Choice(MARKETS),
    multiple=True,
    default=MARKETS[:1],
    show_default=True,
    help="A market that exists, runpod-rest being RunPod without its GraphQL API; may be repeated.",
)
"""Which markets the simulated world has."""


@click.command("demo")
@click.argument("workflow", type=click.Path(path_type=Path, dir_okay=False, exists=True), required=False)
@market_option
@click.option("--unconfined", is_flag=True, help="Run WORKFLOW's jobs even where pods cannot be confined.")
@click.option(
    "--boot-seconds",
    type=click.FloatRange(0, 600),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a simulated pod takes to boot.",
)
@click.option("--spot/--no-spot", default=False, help="Whether RunPod offers spot pods; it has ended them.")
@click.option(
    "--interrupt-after",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="Take the pod away so long after its renting.",
)
@click.option(
    "--keep-logs", type=click.Path(path_type=Path, file_okay=False), help="Copy the pods' logs to this folder."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON; the jobs' output goes to stderr.")
@click.option("--debug", is_flag=True, help="Show tracebacks, and what start and stop do.")
def command(*, workflow: Path | None, as_json: bool, **values: object) -> None:
    """Run the GPU jobs of WORKFLOW (default: an example) for real, on simulated services, without any account.

    `start` and `stop` run as they would in a workflow; the job runs in a simulated pod, a process on this machine. Ends
    with a table, and with 0 only when the job passed and neither a pod nor a runner is left.
    """
    import json  # noqa: PLC0415 - not needed for --help

    need_extra()
    from runner_provisioner.cli.session import run  # noqa: PLC0415 - not needed for --help
    from runner_provisioner.simulators.demo.report import data, exit_code, failure, lines  # noqa: PLC0415 - a lazy door

    options = DemoOptions(workflow=workflow, workspace=working_tree(working_folder(), Path.home()), **values)  # type: ignore[arg-type]
    talk = Talk(to_stderr=as_json)
    outcome = run(lambda: talk.during(lambda: run_demo(options, environ=os.environ, say=talk.say)))
    talk.write(json.dumps(data(outcome), indent=2) if as_json else "\n".join(["", *lines(outcome)]))
    error, code = failure(outcome), exit_code(outcome)
    if error is not None and error.exit_code == code:
        raise error
    if code:
        raise SystemExit(code)


def need_extra() -> None:
    """Raise ConfigurationError when the simulators' own dependencies are not installed."""
    try:
        import graphql  # noqa: F401, PLC0415 - looked for, not used
        import openapi_core  # noqa: F401, PLC0415 - looked for, not used
        import uvicorn  # noqa: F401, PLC0415 - looked for, not used
        import yaml  # noqa: F401, PLC0415 - looked for, not used
    except ImportError as error:
        raise ConfigurationError(
            f"the simulators need the package '{error.name}': install runner-provisioner[simulators]"
        ) from None


class Talk:
    """Everything there is to see, line by line; the simulators' threads speak too, so that `say` never raises."""

    def __init__(self, *, to_stderr: bool) -> None:
        """Raises OutputLost when there is no standard output at all."""
        if sys.stdout is None:
            raise OutputLost("standard output is closed: give it a reader")
        self._to_stderr = to_stderr
        self._lost: OSError | None = None

    def say(self, prefix: str, line: str) -> None:
        """Show who says what, for as long as somebody reads it."""
        try:
            if self._lost is None:
                click.echo(f"{prefix:>{PREFIX_WIDTH}} | {line}", err=self._to_stderr)
        except OSError as error:
            self._lost = error

    def write(self, text: str) -> None:
        """Give the result; raises OutputLost."""
        try:
            click.echo(text)
        except OSError as error:
            raise self._error(error) from error

    async def during(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work, which is cancelled when nobody can read any longer what it says; raises OutputLost then."""
        import anyio  # noqa: PLC0415 - slow to import

        async with anyio.create_task_group() as group:
            group.start_soon(self._watch)
            result = await work()
            group.cancel_scope.cancel()
        return result

    async def _watch(self) -> None:
        import anyio  # noqa: PLC0415 - slow to import

        while self._lost is None or self._to_stderr:  # noqa: ASYNC110 - threads set it, which an Event does not allow
            await anyio.sleep(WATCH_SECONDS)
        raise self._error(self._lost)

    @staticmethod
    def _error(error: OSError) -> OutputLost:
        return OutputLost(
            f"standard output could not be written ({error.strerror}): send it to a reader that stays; nothing is left"
        )


async def run_demo(options: DemoOptions, *, environ: Mapping[str, str], say: Say) -> Outcome:
    """Play the workflow in a world of its own and take everything away again, whatever happens.

    `say` gets (who, line) for everything there is to see. Raises InvalidRequest for a workflow that cannot be played,
    PodsUnavailable when its jobs would have to run unconfined and that was not allowed.
    """
    from runner_provisioner.simulators.demo.play import Performance  # noqa: PLC0415 - a lazy door
    from runner_provisioner.simulators.workflow import WorkflowError  # noqa: PLC0415 - a lazy door
    from runner_provisioner.simulators.world import SimulatedWorld, WorldPlan  # noqa: PLC0415 - a lazy door

    text = read_workflow(options.workflow)
    plan = WorldPlan(
        markets=options.markets,
        workspace=options.workspace,
        boot_seconds=options.boot_seconds,
        spot=options.spot,
        interrupt_after=options.interrupt_after,
    )
    try:
        check_workflow(text, workspace=options.workspace)
        with scratch_folder(options.keep_logs) as scratch:
            host = choose_host(scratch, trusted=options.workflow is None or options.unconfined)
            with SimulatedWorld(scratch, host=host, plan=plan) as world:
                check_ways_in(world)
                unended = kill_time_options(world, say)
                performance = Performance(
                    world=world,
                    text=text,
                    environ=environ,
                    say=say,
                    folder=world.private,
                    start_options=(*start_options(host), *unended),
                    common_options=("--debug",) if options.debug else (),
                    warnings=unstopped(text, (options.workflow or example()).name),
                )
                return await performance.run()
    except WorkflowError as error:
        raise InvalidRequest(str(error)) from None


def check_workflow(text: str, *, workspace: Path | None) -> None:
    """Raise before anything is started: WorkflowError, by name, for what cannot be played.

    InvalidRequest when a GPU job checks out and there is no `workspace` to copy.
    """
    from runner_provisioner.simulators.demo.cast import cast  # noqa: PLC0415 - a lazy door
    from runner_provisioner.simulators.workflow import load_workflow  # noqa: PLC0415 - a lazy door

    workflow = load_workflow(text)
    for job in cast(workflow).gpu_jobs:
        if workspace is None and any(step.is_checkout for step in workflow.jobs[job].steps):
            raise InvalidRequest(
                f"job '{job}' uses actions/checkout, which would copy your whole home folder: "
                "go to the project's folder and call demo there"
            )


def unstopped(text: str, name: str) -> tuple[str, ...]:
    """What `lint` says about the workflow's stops, which the demo plays whether they are there or not."""
    from runner_provisioner.lint.checking import check_workflows  # noqa: PLC0415 - a lazy door

    found = check_workflows({name: text})
    return tuple(str(one) for one in found if one.check.id.startswith(("no-stop", "stop-")))


def start_options(host: PodHost) -> tuple[str, ...]:
    """An unconfined pod is no root and cannot become another user: the job runs as what the pod is."""
    return ("--run-as", "same") if host.mode == "unconfined" else ()


def check_ways_in(world: SimulatedWorld) -> None:
    """Raise PodsUnavailable where a market's pods are started over SSH and those of this machine have none."""
    from runner_provisioner.simulators.pods.host import PodsUnavailable  # noqa: PLC0415 - a lazy door

    bare = [market.name for market in world.markets if market.bare]
    if bare and not world.host.offers_ssh:
        raise PodsUnavailable(
            f"--provider {bare[0]}: its pods are started over SSH, and {world.host.note}: choose another provider, "
            "or run this as root with OpenSSH's server installed"
        )


def kill_time_options(world: SimulatedWorld, say: Say) -> tuple[str, ...]:
    """What `start` needs where a market ends no forgotten pod, which is said."""
    without = [market.name for market in world.markets if not market.ends_pods]
    if not without:
        return ()
    say("demo", f"no kill time at {', '.join(without)}: start is given --accept-no-kill-time")
    return ("--accept-no-kill-time",)


def choose_host(scratch: Path, *, trusted: bool) -> PodHost:
    """The most confined pods that this machine allows; PodsUnavailable when only unconfined ones, untrusted."""
    from runner_provisioner.simulators.pods.host import best_host  # noqa: PLC0415 - a lazy door

    return best_host(scratch / "pods", unconfined_ok=trusted, conceal=(scratch / "private",))


@contextmanager
def scratch_folder(keep_logs: Path | None) -> Iterator[Path]:
    """A folder for everything that is written; removed at the end, the pods' logs copied first when asked for."""
    import shutil  # noqa: PLC0415 - not needed for --help
    import tempfile  # noqa: PLC0415 - not needed for --help

    with tempfile.TemporaryDirectory(prefix="runner-provisioner-", ignore_cleanup_errors=True) as name:
        try:
            yield Path(name)
        finally:
            logs = Path(name) / "logs"
            if keep_logs is not None and logs.is_dir():
                shutil.copytree(logs, keep_logs, dirs_exist_ok=True)


def working_tree(folder: Path, home: Path) -> Path | None:
    """What `actions/checkout` copies: the git tree that `folder` belongs to, else `folder`, but never a whole home."""
    places = (folder, *folder.parents)
    tree = next((place for place in places if (place / ".git").exists()), folder)
    return None if home.is_relative_to(tree) else tree


def read_workflow(path: Path | None) -> str:
    """The file's text, or the example's; InvalidRequest when it cannot be read."""
    place = path or example()
    try:
        return place.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InvalidRequest(f"{place} cannot be read: {reason}") from None


def example() -> Path:
    """The default workflow: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parent.parent
    places = (package.parent / "examples" / EXAMPLE, package / "simulators" / "examples" / EXAMPLE)
    return next((place for place in places if place.is_file()), places[0])
