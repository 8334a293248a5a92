"""Markets of machines, each in a package of its own and independent of the others."""
