"""Shipped test tools: a clock that tests own, and suites that every adapter passes. Production imports none."""
