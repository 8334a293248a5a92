"""Real loopback servers that behave as the documentation of the remote services says."""
