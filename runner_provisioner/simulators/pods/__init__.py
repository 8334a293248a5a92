"""Simulated pods as real local processes; callers import from `host`, and the helpers inside load nothing else."""
