"""The HTTP service: three pods APIs over every provider. FastAPI is imported here and nowhere else."""
