"""`pods`: machines by hand, with the flags of RunPod's own guide."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runner_provisioner.cli.options import BidText, Duration, NameValue, Price
from runner_provisioner.cli.pods_markets import COMMANDS
from runner_provisioner.cli.session import Session, command_options, narrowable, run, table, usd, when
from runner_provisioner.domain.budget import Strictness
from runner_provisioner.domain.containers import check_image, check_mount, check_ports
from runner_provisioner.domain.durations import show_duration
from runner_provisioner.domain.pods import CloudType
from runner_provisioner.errors import InvalidRequest, OutputLost, RunnerProvisionerError

if TYPE_CHECKING:
    from runner_provisioner.domain.pods import Pod
    from runner_provisioner.services.budget import Purse
    from runner_provisioner.services.manual import ManualPods
    from runner_provisioner.wiring import Program

T = TypeVar("T")
POD_LIFETIME = timedelta(hours=24)
SHORTEST = timedelta(minutes=1)
# What the pod is found, checked and ended by must not be said twice.
_NO_OPTION = {
    "terminateafter": "--lifetime",
    "deploycost": "--max-price",
    "gputypeidlist": "--gpu-type",
    "instanceids": "--gpu-type",
}
END_IT = "runner-provisioner pods terminate {}"


@click.group("pods")
def command() -> None:
    """Create, list, stop, resume and end pods by hand.

    A pod made here lives for 24 hours unless told otherwise, and clean-up ends it after that.
    """


@command.command("create")
@click.option(
    "--gpu-type",
    "--gpu",
    "gpu_type",
    multiple=True,
    required=True,
    metavar="MODEL",
    help="GPU model (id or name); repeat it in order of preference.",
)
@click.option("--image", required=True, metavar="IMAGE", help="Container image.")
@click.option("--name", metavar="NAME", help="Name of the pod; default: one that says whose it is and when it ends.")
@click.option("--gpu-count", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="How many GPUs.")
@click.option("--volume-gb", type=click.IntRange(0), default=0, show_default=True, metavar="GB", help="Volume disk.")
@click.option(
    "--container-disk-gb", type=click.IntRange(1), default=40, show_default=True, metavar="GB", help="Container disk."
)
@click.option(
    "--volume-mount-path", default="/workspace", show_default=True, metavar="PATH", help="Where the volume is mounted."
)
@click.option(
    "--port",
    "--ports",
    "ports",
    multiple=True,
    default=("22/tcp",),
    show_default=True,
    metavar="PORT",
    help="Exposed port; may be repeated.",
)
@click.option("--env", type=NameValue(), multiple=True, metavar="NAME=VALUE", help="Environment; may be repeated.")
@click.option("--docker-args", metavar="TEXT", help="Replaces the image's command.")
@click.option(
    "--cloud",
    type=click.Choice(list(CloudType), case_sensitive=False),
    default=CloudType.ALL,
    show_default=True,
    help="Which cloud.",
)
@click.option(
    "--interruptible",
    type=click.Choice(["require", "prefer", "never"]),
    default="never",
    show_default=True,
    help="Whether the provider may take the pod back.",
)
@click.option(
    "--bid", type=BidText(), metavar="BID", help="Bid per hour for the whole pod, 'min+N%', or 'N% of on-demand'."
)
@click.option(
    "--max-price",
    type=Price(),
    default=Decimal("1.00"),
    show_default=True,
    metavar="USD",
    help="Most per hour for the whole pod.",
)
@click.option(
    "--lifetime",
    type=Duration(),
    default=POD_LIFETIME,
    metavar="TIME",
    help="End the pod after this time.  [default: 1d]",
)
@click.option(
    "--budget",
    type=click.Choice(list(Strictness), case_sensitive=False),
    default=Strictness.ENFORCE,
    show_default=True,
    help="Whether RUNNER_PROVISIONER_BUDGET_DAY and _MONTH, used up or not to be reckoned, refuse the pod.",
)
@click.option("--ssh-key", metavar="KEY", help="Public key or its file; default: the agent's, else the account's.")
@click.option("--owner", metavar="TEXT", help="Owner mark; default: GITHUB_REPOSITORY, else 'manual'.")
@click.option(
    "--option",
    "further",
    type=NameValue(),
    multiple=True,
    metavar="NAME=VALUE",
    help="Further field of the provider's API, such as countryCode=US.",
)
@command_options
@narrowable
def create(*, session: Session, **values: Any) -> None:  # noqa: ANN401 - click's options by name
    """Rent a pod. Shows it, and when it will end."""
    run(
        lambda: _create(session, values),
        after_cancel="a pod may have been rented: 'pods list' shows it",
    )


async def _create(session: Session, values: dict[str, Any]) -> None:
    from runner_provisioner.cli.program import opened  # noqa: PLC0415 - imports everything
    from runner_provisioner.cli.ssh_keys import public_keys  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.domain.offers import GpuRequest, Interruptible  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.drafts import manual_spec  # noqa: PLC0415 - imports much
    from runner_provisioner.ports import has_kill_time  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.wiring import manual_owner8  # noqa: PLC0415 - imports everything

    _check(values)
    keys = await public_keys(values["ssh_key"])
    request = GpuRequest(
        models=tuple(values["gpu_type"]),
        count=values["gpu_count"],
        interruptible=Interruptible(values["interruptible"]),
        max_price=values["max_price"],
        bid=values["bid"],
        cloud=values["cloud"],
    )
    async with opened(session, needs_github=False) as program:
        pods = _pods(session, program)
        spec = manual_spec(
            values,
            owner8=manual_owner8(session.settings, values["owner"]),
            repository=session.settings.repository,
            now=program.clock.now(),
            ssh_keys=keys,
        )
        purse = _purse(program, values)
        pod = await pods.create(
            spec,
            request,
            lifetime=values["lifetime"],
            purse=purse,
            # Who names a provider has chosen it for what it is.
            accept_no_kill_time=bool(session.providers),
        )
        ends = has_kill_time(program.providers[pod.provider])
        data = describe(pod) | {"expires-at": when(spec.terminate_after)}
        try:
            session.show(data, lines=lines_of(data))
        except OutputLost:
            # Nobody would learn of it.
            await pods.terminate(pod.id)
            raise
    if ends:
        session.talk(f"it ends by itself after {show_duration(values['lifetime'])}; earlier: {END_IT.format(pod.id)}")
        return
    session.warn(_nobody_ends(pod, show_duration(values["lifetime"])))


def _nobody_ends(pod: Pod, lifetime: str) -> str:
    """What to say of a pod whose provider has no kill time."""
    alone = f"{pod.provider} ends no pod by itself: end it with '{END_IT.format(pod.id)}'"
    if _expires(pod) is None:
        return f"{alone}; no clean-up can tell by its name that it is yours"
    return f"{alone}; a 'cleanup' that looks for its owner ends it after {lifetime}"


def _purse(program: Program, values: dict[str, Any]) -> Purse:
    """What is left of the installation's budget, of which pods made by hand are a part."""
    from runner_provisioner.domain.budget import Budget  # noqa: PLC0415 - beside its one use
    from runner_provisioner.services.budget import Purse  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.wiring import manual_owner8  # noqa: PLC0415 - imports everything

    settings = program.settings
    return Purse(
        Budget(day=settings.budget_day, month=settings.budget_month, strictness=values["budget"]),
        providers=program.providers,
        history=program.history,
        clock=program.clock,
        events=program.events,
        owner8=manual_owner8(settings, values["owner"]),
        lifetime=values["lifetime"],
    )


def _check(values: dict[str, Any]) -> None:
    """Bring ports and mount point into their plain form; raises InvalidRequest."""
    if values["lifetime"] < SHORTEST:
        raise InvalidRequest(f"--lifetime {show_duration(values['lifetime'])}: a pod lives for a minute at least")
    for name, _ in values["further"]:
        instead = _NO_OPTION.get(name.replace("_", "").lower())
        if instead:
            raise InvalidRequest(f"--option {name}: use {instead}, which is also what the pod is told and checked by")
    check_image("--image", values["image"])
    values["ports"] = check_ports("--port", values["ports"])
    values["volume_mount_path"] = check_mount("--volume-mount-path", values["volume_mount_path"])


@command.command("list")
@command_options
@narrowable
def list_(*, session: Session) -> None:
    """List every pod of every account, with its provider."""

    async def work(pods: ManualPods) -> None:
        found, errors = await pods.look()
        rows = [
            (pod.id, pod.name, pod.provider, _shown(pod), pod.gpu_model, usd(pod.price), _end(pod)) for pod in found
        ]
        lines = table(("id", "name", "provider", "status", "GPU", "USD/h", "ends"), rows) if rows else ["no pods"]
        data = {"pods": [describe(pod) for pod in found], "errors": [str(error) for error in errors.values()]}
        session.show(data, lines=lines if found or not errors else [])
        tell_unseen(session, errors)

    run(lambda: _with_pods(session, work))


@command.command("get")
@click.argument("pod_id")
@command_options
@narrowable
def get(*, session: Session, pod_id: str) -> None:
    """Show one pod and how busy it is."""
    _one(session, lambda pods: pods.get(_id(pod_id)))


@command.command("stop")
@click.argument("pod_id")
@command_options
@narrowable
def stop(*, session: Session, pod_id: str) -> None:
    """Stop a pod; its volume goes on billing, at double price."""
    _one(session, lambda pods: pods.stop(_id(pod_id)))


def _resume(name: str, help_text: str) -> click.Command:
    @click.command(name, help=help_text)
    @click.argument("pod_id")
    @click.option("--gpu-count", type=click.IntRange(1), metavar="N", help="How many GPUs.")
    @click.option("--bid-per-gpu", type=Price(), metavar="USD", help="Bid per GPU and hour, for an interruptible pod.")
    @command_options
    @narrowable
    def resume(*, session: Session, pod_id: str, gpu_count: int | None, bid_per_gpu: Decimal | None) -> None:
        _one(session, lambda pods: pods.resume(_id(pod_id), gpu_count=gpu_count, bid_per_gpu=bid_per_gpu))

    return resume


command.add_command(_resume("start", "Start a stopped pod again (the same as resume)."))
command.add_command(_resume("resume", "Start a stopped pod again."))
for _more in COMMANDS:
    command.add_command(_more)


@command.command("terminate")
@click.argument("pod_id")
@command_options
@narrowable
def terminate(*, session: Session, pod_id: str) -> None:
    """End a pod for good and look that it is gone."""

    async def work(pods: ManualPods) -> None:
        pod = await pods.terminate(_id(pod_id))
        line = f"{pod_id}: ended" if pod else f"{pod_id}: there was no such pod"
        session.show({"id": pod_id, "existed": pod is not None}, lines=[line])

    run(lambda: _with_pods(session, work))


def tell_unseen(session: Session, errors: Mapping[str, RunnerProvisionerError]) -> None:
    """Warn about every provider that could not be looked at, and end with the error of the first."""
    for name, error in errors.items():
        if len(session.asked) > 1:
            session.warn(f"{name} could not be looked at: {error}")
    for error in errors.values():
        raise error


def _one(session: Session, call: Callable[[ManualPods], Awaitable[Pod]]) -> None:
    async def work(pods: ManualPods) -> None:
        pod = await call(pods)
        session.show(describe(pod), lines=lines_of(describe(pod)))

    run(lambda: _with_pods(session, work))


async def _with_pods(session: Session, work: Callable[[ManualPods], Awaitable[None]]) -> None:
    from runner_provisioner.cli.program import opened  # noqa: PLC0415 - imports everything

    async with opened(session, needs_github=False) as program:
        await work(_pods(session, program))


def _pods(session: Session, program: Program) -> ManualPods:
    from runner_provisioner.services.chronicle import Chronicle  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.services.manual import ManualPods  # noqa: PLC0415 - likewise

    return ManualPods(
        program.providers,
        clock=program.clock,
        settle=session.settings.settle,
        hurry=program.tempo.hurry,
        chronicle=Chronicle(program.history, clock=program.clock, events=program.events),
        events=program.events,
    )


def describe(pod: Pod) -> dict[str, Any]:
    """A pod for --json."""
    return {
        "id": pod.id,
        "name": pod.name,
        "provider": pod.provider,
        "class": pod.tags.cls.value if pod.tags else None,
        "state": pod.state.value,
        "status": _shown(pod),
        "image": pod.image,
        "gpu": pod.gpu_model,
        "gpu-count": pod.gpu_count,
        "interruptible": pod.interruptible,
        "price-per-hour": str(pod.price) if pod.price is not None else None,
        "created-at": when(pod.created_at),
        "expires-at": when(_expires(pod)),
        "ssh-command": f"ssh -p {pod.ssh.port} {pod.ssh.user}@{pod.ssh.host}" if pod.ssh else None,
        "uptime-seconds": pod.uptime_seconds,
        "telemetry": _telemetry(pod),
        "detail": pod.detail or None,
    }


def _telemetry(pod: Pod) -> dict[str, Any] | None:
    load = pod.telemetry
    if load is None:
        return None
    return {
        "cpu-percent": load.cpu_percent,
        "memory-percent": load.memory_percent,
        "gpus": [
            {"id": gpu.id, "gpu-percent": gpu.gpu_percent, "memory-percent": gpu.memory_percent} for gpu in load.gpus
        ],
    }


def lines_of(described: dict[str, Any]) -> list[str]:
    """What describe gave, one thing a line."""
    shown = {name: value for name, value in described.items() if value is not None and name != "telemetry"}
    shown |= {name: "yes" if value else "no" for name, value in shown.items() if isinstance(value, bool)}
    lines = [f"{name}: {value}" for name, value in shown.items()]
    load = described["telemetry"]
    if load is not None:
        lines.append(f"load: CPU {_percent(load['cpu-percent'])}, memory {_percent(load['memory-percent'])}")
        lines += [
            f"load of GPU {gpu['id']}: {_percent(gpu['gpu-percent'])}, memory {_percent(gpu['memory-percent'])}"
            for gpu in load["gpus"]
        ]
    return lines


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:g} %"


def _shown(pod: Pod) -> str:
    """STOPPED where the guide shows it; RunPod's own word for it is EXITED."""
    return "STOPPED" if pod.state.value == "stopped" else pod.status or pod.state.value.upper()


def _end(pod: Pod) -> str | None:
    ends = _expires(pod)
    return ends.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC") if ends else None


def _expires(pod: Pod) -> datetime | None:
    """As its tags say, or its name where its provider gives no tags back."""
    from runner_provisioner.domain.names import ManualName  # noqa: PLC0415 - keeps --help quick

    if pod.tags is not None:
        return pod.tags.expires_at
    named = ManualName.parse(pod.name)
    return named.expires_at if named else None


def _id(text: str) -> Any:  # noqa: ANN401 - a NewType over str, imported late
    from runner_provisioner.domain.pods import PodId  # noqa: PLC0415 - keeps --help quick

    return PodId(text)
