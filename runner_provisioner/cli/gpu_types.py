"""`gpu-types`: which models there are."""

from __future__ import annotations

import click

from runner_provisioner.cli.session import Session, command_options, narrowable, run, table


@click.command("gpu-types")
@command_options
@narrowable
def command(*, session: Session) -> None:
    """List the GPU models that the provider knows, rentable or not."""
    run(lambda: _gpu_types(session))


async def _gpu_types(session: Session) -> None:
    from runner_provisioner.cli.program import opened  # noqa: PLC0415 - imports everything
    from runner_provisioner.ports import HasGpuTypes  # noqa: PLC0415 - keeps --help quick

    async with opened(session, needs_github=False) as program:
        types = [
            (provider.name, gpu)
            for provider in program.providers.values()
            if isinstance(provider, HasGpuTypes)
            for gpu in await provider.gpu_types()
        ]
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
            ("id", "name", "GB", "clouds"),
            [(gpu.id, gpu.name, gpu.memory_gb, _clouds(gpu.secure, gpu.community)) for _, gpu in types],
        )
        session.show(data, lines=lines)


def _clouds(secure: bool, community: bool) -> str:  # noqa: FBT001 - two flags of one answer
    return ", ".join(name for name, there in (("secure", secure), ("community", community)) if there) or "-"
