"""Use cases: what the program does, over ports only."""
