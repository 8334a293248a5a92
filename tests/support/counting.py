"""What a test reports beside passing (apart, because every test run reads it)."""

from __future__ import annotations

CASES = "cases of the product of faults and steps"
