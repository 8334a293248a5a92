"""The checks: each a function from one workflow, and all that are known, to findings."""
