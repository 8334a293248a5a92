"""The workflow check: what breaks or leaks when a workflow rents a machine. Pure; it reads no files."""
