lock:  ## Renew both lock files (pins and hashes, no addresses)
	uv pip compile --universal --generate-hashes --no-header --python-version 3.11 pyproject.toml -o requirements.lock
	uv pip compile --universal --generate-hashes --no-header --python-version 3.11 --all-extras --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock
