"""RunPod: the GraphQL API, and the one REST v2 call that ends a pod."""

from runner_provisioner.providers.runpod.api import DEFAULT_URL, RunPodApi
from runner_provisioner.providers.runpod.provider import RunPodProvider

__all__ = ["DEFAULT_URL", "RunPodApi", "RunPodProvider"]
