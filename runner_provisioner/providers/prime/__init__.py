"""Prime Intellect: one REST API over the machines of many clouds, on demand and spot."""

from runner_provisioner.providers.prime.api import DEFAULT_URL, PrimeApi
from runner_provisioner.providers.prime.provider import PrimeProvider

__all__ = ["DEFAULT_URL", "PrimeApi", "PrimeProvider"]
