"""Lium (formerly Celium): a marketplace of other people's nodes, spot and secure."""

from runner_provisioner.providers.celium.addresses import DEFAULT_URL, FORMER_URL
from runner_provisioner.providers.celium.api import CeliumApi
from runner_provisioner.providers.celium.provider import CeliumProvider

__all__ = ["DEFAULT_URL", "FORMER_URL", "CeliumApi", "CeliumProvider"]
