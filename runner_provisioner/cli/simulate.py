"""`simulate`: GitHub and markets, simulated, for as long as one wants."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runner_provisioner.cli.demo import market_option
from runner_provisioner.cli.session import working_folder
from runner_provisioner.errors import ConfigurationError

if TYPE_CHECKING:
    from runner_provisioner.simulators.world import SimulatedWorld, WorldPlan


@click.command("simulate")
@market_option
@click.option("--runpod-port", type=click.IntRange(0, 65535), default=0, metavar="PORT", help="Default: a free one.")
@click.option("--prime-port", type=click.IntRange(0, 65535), default=0, metavar="PORT", help="Default: a free one.")
@click.option("--celium-port", type=click.IntRange(0, 65535), default=0, metavar="PORT", help="Default: a free one.")
@click.option("--github-port", type=click.IntRange(0, 65535), default=0, metavar="PORT", help="Default: a free one.")
@click.option("--repository", default="octocat/gpu-demo", show_default=True, metavar="OWNER/NAME", help="What exists.")
@click.option("--spot/--no-spot", default=False, help="Whether RunPod offers spot pods; it has ended them.")
@click.option(
    "--boot-seconds",
    type=click.FloatRange(0, 600),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a simulated pod takes to boot.",
)
@click.option("--inert", is_flag=True, help="Run nothing in the pods.")
@click.option("--unconfined", is_flag=True, help="Run the pods' commands even where pods cannot be confined.")
@click.option("--json", "as_json", is_flag=True, help="Print the environment as JSON.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def command(
    *,
    runpod_port: int,
    prime_port: int,
    celium_port: int,
    inert: bool,
    unconfined: bool,
    as_json: bool,
    debug: bool,  # noqa: ARG001 - the group reads --debug
    **values: object,
) -> None:
    """Start a simulated GitHub and simulated markets on loopback, and print the environment that leads there.

    \b
    In one terminal:   runner-provisioner simulate > simulated.env
    In another:        . ./simulated.env && runner-provisioner start

    Pods are processes on this machine. Ends on Ctrl-C, and then everything ends with it.
    """  # noqa: D301 - click reads the \b
    from runner_provisioner.cli.demo import need_extra, working_tree  # noqa: PLC0415 - not needed for --help

    need_extra()
    from runner_provisioner.cli.session import run  # noqa: PLC0415 - not needed for --help
    from runner_provisioner.errors import Cancelled  # noqa: PLC0415 - not needed for --help
    from runner_provisioner.simulators.world import WorldPlan  # noqa: PLC0415 - a lazy door

    ports = {"runpod": runpod_port, "runpod-rest": runpod_port, "prime": prime_port, "celium": celium_port}
    plan = WorldPlan(workspace=working_tree(working_folder(), Path.home()), ports=ports, **values)  # type: ignore[arg-type]

    def show(world: SimulatedWorld) -> None:
        # What simulated machines cost is no experience with real ones.
        history = {"RUNNER_PROVISIONER_HISTORY": str(world.private / "history.sqlite3")}
        click.echo(environment_text({**world.environment, **history}, as_json=as_json))
        note = f" ({world.host.note})" if world.host.note else ""
        click.echo(f"pods are {world.host.mode}{note}; Ctrl-C ends everything", err=True)

    try:
        run(lambda: run_simulators(plan, inert=inert, unconfined=unconfined, ready=show))
    except Cancelled:
        click.echo("ended", err=True)


def environment_text(environment: Mapping[str, str], *, as_json: bool) -> str:
    """Lines for a shell, or one JSON object."""
    if as_json:
        import json  # noqa: PLC0415 - not needed otherwise

        return json.dumps(dict(environment), indent=2)
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in environment.items())


async def run_simulators(
    plan: WorldPlan, *, inert: bool, unconfined: bool, ready: Callable[[SimulatedWorld], None]
) -> None:
    """Serve until cancelled; `ready` is called once everything answers.

    Raises PodsUnavailable when pods cannot be confined and that was not allowed, ConfigurationError for a port that is
    taken or a repository that is no owner/name.
    """
    import anyio  # noqa: PLC0415 - not needed for --help

    from runner_provisioner.cli.demo import choose_host, scratch_folder  # noqa: PLC0415 - not needed for --help
    from runner_provisioner.simulators.pods.host import InertHost, PodHost  # noqa: PLC0415 - a lazy door
    from runner_provisioner.simulators.world import SimulatedWorld  # noqa: PLC0415 - a lazy door

    if plan.repository.count("/") != 1 or not all(plan.repository.split("/")):
        raise ConfigurationError(f"--repository {plan.repository}: write OWNER/NAME")
    with scratch_folder(None) as scratch:
        host: PodHost = InertHost() if inert else choose_host(scratch, trusted=unconfined)
        with SimulatedWorld(scratch, host=host, plan=plan) as world:
            ready(world)
            await anyio.sleep_forever()
