"""What starts a runner inside a rented pod: a script, rendered by a pure function, and the pod's SSH host key."""
