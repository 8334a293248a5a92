"""RunPod: the GraphQL API and REST v2; `routes` says which of them serves what."""

from runner_provisioner.providers.runpod.api import DEFAULT_URL, RunPodApi
from runner_provisioner.providers.runpod.provider import RunPodProvider
from runner_provisioner.providers.runpod.routes import Api

__all__ = ["DEFAULT_URL", "Api", "RunPodApi", "RunPodProvider"]
