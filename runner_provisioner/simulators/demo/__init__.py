"""Playing a workflow's GPU jobs: `start` and `stop` as real processes, everything around them simulated."""
