"""What is rented, written down: the pod of a start, with its script, and one made by hand."""

from __future__ import annotations

import math
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from runner_provisioner.bootstrap.render import RunnerScript, render, render_gate
from runner_provisioner.domain.gate import GATE, GateFloor
from runner_provisioner.domain.names import MANUAL_LETTERS, RunKey, Scope, manual_name
from runner_provisioner.domain.pods import PodClass, PodSpec, PodTags
from runner_provisioner.domain.request import Gate, StartRequest
from runner_provisioner.domain.runners import creator_label, end_label, provider_label

if TYPE_CHECKING:
    from runner_provisioner.bootstrap.host_key import HostKey
    from runner_provisioner.domain.offers import Offer
    from runner_provisioner.domain.runners import Registration, RunnerDownload
    from runner_provisioner.ports import Clock
    from runner_provisioner.settings import Settings
    from runner_provisioner.storage.state_file import Record

REGISTER_MARGIN = timedelta(minutes=2)
_LOOKS_TO_SEE = 3  # of a start at a pod that boots, before one that failed its gate ends


@dataclass(frozen=True, kw_only=True)
class Draftsman:
    """Writes down the pod that a start asks for, in the place of this scope whose pods bear this owner."""

    settings: Settings
    clock: Clock
    scope: Scope
    owner8: str
    repository: str | None
    request: StartRequest
    key: RunKey
    record: Record
    creator: str
    host_key: HostKey
    ssh_keys: tuple[str, ...]
    bare: frozenset[str] = frozenset()

    def draw_up(
        self, offer: Offer, lifetime: timedelta, registration: Registration | None, download: RunnerDownload
    ) -> PodSpec:
        """The pod, with the start command that holds the registration token, or waits for a configuration.

        Pods of the `bare` providers have a host key before they are started, and keep it.
        """
        bare = offer.provider in self.bare
        wishes = self.request.gpus
        expires = self.clock.now() + lifetime
        env = {"PUBLIC_KEY": "\n".join(self.ssh_keys)} if self.ssh_keys else {}
        tags = replace(self._tags(expires), host_key=None if bare else self.host_key.public)
        floor = self._floor(offer, model="" if bare else offer.gpu_model)
        env |= {GATE: render_gate(floor, jit=registration is None)}
        return PodSpec(
            name=self.key.name,
            image=self.request.image,
            tags=tags,
            command=render(self._script(offer, registration, download, lifetime, expires, floor)),
            env={**env, **tags.to_env()},
            disk_gb=self.request.disk,
            volume_gb=self.request.volume,
            volume_mount=self.request.volume_mount,
            ports=self.request.port,
            min_vcpus=self.request.min_vcpus,
            min_memory_gb=self.request.min_memory,
            min_disk_gb=wishes.disk_gb,
            min_download=wishes.min_download,
            min_upload=wishes.min_upload,
            cuda=wishes.cuda,
            network_volume=wishes.network_volume,
            cloud=self.request.cloud,
            terminate_after=expires,
        )

    def _floor(self, offer: Offer, *, model: str) -> GateFloor:
        """What the gate in the pod asks for; nothing where it is off. `model` as the driver calls it, if known."""
        if self.request.gate is Gate.OFF:
            return GateFloor()
        return GateFloor.of(
            model=model,
            count=offer.gpu_count,
            memory_gb=offer.memory_gb,
            driver=self.request.min_driver,
            cuda=self.request.gpus.cuda,
            disk_gb=self.request.disk,
            download_mbps=self.request.gpus.min_download or 0,
        )

    def _tags(self, expires: datetime) -> PodTags:
        return PodTags(
            owner=self.owner8,
            cls=PodClass.RUNNER,
            repository=self.repository,
            label=self.record.label,
            nonce=self.record.nonce,
            creator=self.creator,
            expires_at=expires,
        )

    def _script(
        self,
        offer: Offer,
        registration: Registration | None,
        download: RunnerDownload,
        lifetime: timedelta,
        expires: datetime,
        floor: GateFloor,
    ) -> RunnerScript:
        request = self.request
        told = (creator_label(self.creator), end_label(expires), provider_label(offer.provider))
        return RunnerScript(
            name=self.key.name,
            url=self.scope.url,
            token=registration.token if registration is not None else None,
            labels=(self.record.label, *told, *request.label),
            runner_group=request.runner_group,
            download=download,
            run_as=request.run_as,
            idle_seconds=int(request.idle.total_seconds()),
            lifetime_seconds=int(lifetime.total_seconds()),
            register_seconds=int((request.start_timeout + REGISTER_MARGIN).total_seconds()),
            volume_mount=request.volume_mount if request.volume or request.network_volume else None,
            owner=self.scope.owner,
            repository=self.repository,
            run_id=self.key.run_id,
            graphql_url=self.settings.runpod_api_url,
            rest_url=self.settings.runpod_rest_url,
            host_private_key=None if offer.provider in self.bare else self.host_key.private,
            gate=floor,
            linger_seconds=math.ceil(_LOOKS_TO_SEE * self.settings.poll_booting),
            job_env={**request.env, **self._again()},
        )

    def _again(self) -> dict[str, str]:
        """What tells a job that it is a re-run, which may go on from where the last attempt was."""
        if self.key.attempt <= 1:
            return {}
        return {"RUNNER_PROVISIONER_ATTEMPT": str(self.key.attempt), "RUNNER_PROVISIONER_RESUME": "1"}


def manual_spec(
    values: Mapping[str, Any], *, owner8: str, repository: str | None, now: datetime, ssh_keys: tuple[str, ...]
) -> PodSpec:
    """The pod that `pods create` asks for: class manual, with an end. Raises InvalidRequest."""
    expires = now + values["lifetime"]
    tags = PodTags(
        owner=owner8,
        cls=PodClass.MANUAL,
        repository=repository,
        nonce=secrets.token_hex(16),
        expires_at=expires,
    )
    env = {"PUBLIC_KEY": "\n".join(ssh_keys)} if ssh_keys else {}
    options: dict[str, object] = dict(values["further"])
    if values["docker_args"]:
        options["dockerArgs"] = values["docker_args"]
    return PodSpec(
        name=values["name"] or manual_name(owner8, expires, letters(MANUAL_LETTERS)),
        image=values["image"],
        tags=tags,
        env={**env, **dict(values["env"]), **tags.to_env()},
        disk_gb=values["container_disk_gb"],
        volume_gb=values["volume_gb"],
        volume_mount=values["volume_mount_path"],
        ports=tuple(values["ports"]),
        cloud=values["cloud"],
        terminate_after=expires,
        options=options,
    )


def letters(count: int) -> str:
    """So many random ones, lower-case."""
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(count))
