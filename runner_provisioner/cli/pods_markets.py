"""`pods logs`, `pods history`, `pods templates` and their like: what a provider tells and keeps beside pods."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from runner_provisioner.cli.options import NameValue
from runner_provisioner.cli.session import Session, command_options, narrowable, run, table, usd, when
from runner_provisioner.domain.containers import check_image, check_ports

if TYPE_CHECKING:
    from runner_provisioner.domain.markets import LogLine, PastPod, PodTemplate
    from runner_provisioner.services.markets import Markets, Told


@click.command("logs")
@click.argument("pod_id")
@click.option("--tail", type=click.IntRange(1, 100_000), metavar="N", help="Only the last lines; default: all.")
@click.option("--follow", "-f", is_flag=True, help="Go on until the pod ends.")
@command_options
@narrowable
def logs(*, session: Session, pod_id: str, tail: int | None, follow: bool) -> None:
    """Show the output of a pod's container as its provider has it.

    Of a runner's pod 'logs' shows more, by SSH. With --json it is given once it has ended.
    """

    async def work(markets: Markets) -> None:
        from contextlib import aclosing  # noqa: PLC0415 - beside its one use

        from runner_provisioner.domain.pods import PodId  # noqa: PLC0415 - keeps --help quick

        shown = []
        async with aclosing(await markets.logs(PodId(pod_id), tail=tail, follow=follow)) as lines:  # type: ignore[type-var] # adapters give generators
            async for line in lines:
                if session.as_json:
                    shown.append(_line(line))
                else:
                    session.show({}, lines=[line.text])
        if session.as_json:
            session.show({"id": pod_id, "lines": shown})

    run(lambda: _with_markets(session, work))


@click.command("history")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=100, show_default=True, metavar="N", help="How many at most."
)
@command_options
@narrowable
def history(*, session: Session, limit: int) -> None:
    """List pods of the accounts that have ended, the latest first, as their providers remember them.

    'costs' shows what this installation remembers of its own.
    """

    async def work(markets: Markets) -> None:
        found = await markets.history(limit=limit)
        head = ("id", "name", "provider", "GPU", "USD", "ended", "why")
        rows = [
            (pod.id, pod.name, pod.provider, pod.gpu_model, _cost(pod), when(pod.ended_at), pod.reason or None)
            for pod in found.pods
        ]
        lines = table(head, rows) if rows else ["no pods of the past"]
        session.show({"pods": [_past(pod) for pod in found.pods], **_told(found)}, lines=lines)
        _tell(session, found, "remembers no pods")

    run(lambda: _with_markets(session, work))


@click.command("templates")
@command_options
@narrowable
def templates(*, session: Session) -> None:
    """List the templates of the accounts."""

    async def work(markets: Markets) -> None:
        found = await markets.templates()
        rows = [(one.id, one.name, one.provider, one.image, one.status or None) for one in found.templates]
        lines = table(("id", "name", "provider", "image", "status"), rows) if rows else ["no templates"]
        session.show({"templates": [_template(one) for one in found.templates], **_told(found)}, lines=lines)
        _tell(session, found, "keeps no templates")

    run(lambda: _with_markets(session, work))


@click.command("create-template")
@click.option("--name", required=True, metavar="NAME", help="What it is called.")
@click.option("--image", required=True, metavar="IMAGE", help="Container image.")
@click.option("--command", metavar="TEXT", help="Bash command line that replaces the image's own.")
@click.option("--env", type=NameValue(), multiple=True, metavar="NAME=VALUE", help="Environment; may be repeated.")
@click.option(
    "--port",
    multiple=True,
    default=("22/tcp",),
    show_default=True,
    metavar="PORT",
    help="Exposed port; may be repeated.",
)
@click.option("--disk-gb", type=click.IntRange(1), default=40, show_default=True, metavar="GB", help="Container disk.")
@click.option("--once", is_flag=True, help="One that goes with its pod, where the provider has such.")
@command_options
@narrowable
def create_template(*, session: Session, **values: Any) -> None:  # noqa: ANN401 - click's options by name
    """Make a template, and wait until a pod can be made of it."""
    from runner_provisioner.domain.markets import TemplateSpec  # noqa: PLC0415 - keeps --help quick

    check_image("--image", values["image"])
    spec = TemplateSpec(
        name=values["name"],
        image=values["image"],
        command=values["command"],
        env=dict(values["env"]),
        ports=check_ports("--port", values["port"]),
        disk_gb=values["disk_gb"],
        once=values["once"],
    )

    async def work(markets: Markets) -> None:
        made = await markets.create_template(spec)
        told = _template(made)
        shown = told | {"usable": "yes" if made.usable else "no"}
        session.show(told, lines=[f"{name}: {value}" for name, value in shown.items() if value])

    run(
        lambda: _with_markets(session, work),
        after_cancel="a template may have been made: 'pods templates' shows it",
    )


@click.command("delete-template")
@click.argument("template_id")
@command_options
@narrowable
def delete_template(*, session: Session, template_id: str) -> None:
    """Remove a template; one that is gone already is no error."""

    async def work(markets: Markets) -> None:
        await markets.delete_template(template_id)
        session.show({"id": template_id}, lines=[f"{template_id}: removed"])

    run(lambda: _with_markets(session, work))


@click.command("ssh-keys")
@command_options
@narrowable
def ssh_keys(*, session: Session) -> None:
    """List the public SSH keys that the accounts keep."""

    async def work(markets: Markets) -> None:
        found = await markets.ssh_keys()
        keys = [{"provider": name, "key": key} for name, keys in found.keys.items() for key in keys]
        rows = [(one["provider"], one["key"]) for one in keys]
        session.show(
            {"ssh-keys": keys, **_told(found)}, lines=table(("provider", "key"), rows) if rows else ["no keys"]
        )
        _tell(session, found, "keeps no SSH keys")

    run(lambda: _with_markets(session, work))


COMMANDS = (logs, history, templates, create_template, delete_template, ssh_keys)


async def _with_markets(session: Session, work: Callable[[Markets], Awaitable[None]]) -> None:
    from runner_provisioner.cli.program import opened  # noqa: PLC0415 - imports everything
    from runner_provisioner.services.manual import ManualPods  # noqa: PLC0415 - likewise
    from runner_provisioner.services.markets import Markets  # noqa: PLC0415 - likewise

    async with opened(session, needs_github=False) as program:
        pods = ManualPods(program.providers, clock=program.clock, settle=session.settings.settle)
        await work(Markets(program.providers, pods))


def _told(found: Told) -> dict[str, Any]:
    return {"cannot": list(found.cannot), "errors": [str(error) for error in found.errors.values()]}


def _tell(session: Session, found: Told, what: str) -> None:
    """Say who is missing in it, and end with the error of the first provider that failed."""
    from runner_provisioner.cli.pods import tell_unseen  # noqa: PLC0415 - it has these commands

    for name in found.cannot:
        session.talk(f"{name} {what}")
    tell_unseen(session, found.errors)


def _line(line: LogLine) -> dict[str, Any]:
    return {"at": when(line.at), "source": line.source or None, "text": line.text}


def _cost(pod: PastPod) -> str | None:
    """To a hundredth of a cent: services give as many digits as a division has."""
    return usd(round(pod.cost, 4)) if pod.cost is not None else None


def _past(pod: PastPod) -> dict[str, Any]:
    return {
        "id": pod.id,
        "name": pod.name,
        "provider": pod.provider,
        "gpu": pod.gpu_model,
        "gpu-count": pod.gpu_count,
        "interruptible": pod.interruptible,
        "price-per-hour": str(pod.price) if pod.price is not None else None,
        "cost-usd": str(pod.cost) if pod.cost is not None else None,
        "created-at": when(pod.created_at),
        "ended-at": when(pod.ended_at),
        "reason": pod.reason or None,
    }


def _template(one: PodTemplate) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "provider": one.provider,
        "image": one.image,
        "status": one.status or None,
        "usable": one.usable,
    }
