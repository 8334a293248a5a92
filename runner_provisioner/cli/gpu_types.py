"""`gpu-types`: which models there are."""

from __future__ import annotations

import click

from runner_provisioner.cli.session import Session, command_options, narrowable, run, table


@click.command("gpu-types")
@command_options
@narrowable
def command(*, session: Session) -> None:
    """List the GPU models that the providers know, rentable or not."""
    run(lambda: _gpu_types(session))


async def _gpu_types(session: Session) -> None:
    from runner_provisioner.cli.pods import tell_unseen  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.cli.program import opened  # noqa: PLC0415 - imports everything
    from runner_provisioner.ports import HasGpuTypes  # noqa: PLC0415 - keeps --help quick
    from runner_provisioner.services.asking import ask_all  # noqa: PLC0415 - likewise

    async with opened(session, needs_github=False) as program:
        asked = {name: one.gpu_types for name, one in program.providers.items() if isinstance(one, HasGpuTypes)}
        replies = await ask_all(asked)
        types = [(name, gpu) for name, known in replies.answers.items() for gpu in known]
        data = {
            "gpu-types": [
                {
                    "provider": provider,
                    "id": gpu.id,
                    "name": gpu.name,
                    "memory-gb": gpu.memory_gb,
                    "secure": gpu.secure,
                    "community": gpu.community,
                }
                for provider, gpu in types
            ]
        }
        lines = table(
            ("provider", "id", "name", "GB", "clouds"),
            [(name, gpu.id, gpu.name, gpu.memory_gb, _clouds(gpu.secure, gpu.community)) for name, gpu in types],
        )
        if types or not replies.errors:
            session.show(data, lines=lines)
        tell_unseen(session, replies.errors)


def _clouds(secure: bool, community: bool) -> str:  # noqa: FBT001 - two flags of one answer
    return ", ".join(name for name, there in (("secure", secure), ("community", community)) if there) or "-"
