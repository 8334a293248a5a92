"""Runs GitHub Actions jobs on rented GPUs."""
