"""What RunPod charges for disks."""

from __future__ import annotations

from decimal import Decimal

HOURS_PER_MONTH = 730
# USD per GB and month, from the pricing page.
CONTAINER_DISK = Decimal("0.10")
VOLUME_RUNNING = Decimal("0.10")
VOLUME_STOPPED = Decimal("0.20")


def disk_rate(gigabytes: int, per_month: Decimal) -> Decimal:
    """USD per hour."""
    return gigabytes * per_month / HOURS_PER_MONTH
