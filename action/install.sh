#!/usr/bin/env bash
# Makes the program runnable, once for all steps of a job, and sets the output `program`.
#
# The dependencies come from requirements.lock with their hashes; the program itself runs from the action's own
# checkout, which nothing builds or copies.
set -euo pipefail
export LC_ALL=C

action=$GITHUB_ACTION_PATH
lock=$action/requirements.lock
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$action/pyproject.toml" | head -n 1)
mark=$({ cat "$lock"; printf '%s\n' "$version" "$action"; } | cksum | tr ' ' '-')
runtime=$RUNNER_TEMP/runner-provisioner/runtime-$mark
program=$runtime/bin/runner-provisioner

# Where an organisation's proxy signs for everybody, the system knows its certificate, as pip does.
export PIP_ROOT_USER_ACTION=ignore
export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-true}
python=

find_python() {
  local candidate
  for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do
    if "$candidate" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      python=$candidate
      return
    fi
  done
}

with_uv() { # UV
  if [ ! -e "$runtime/pyvenv.cfg" ]; then
    "$1" venv --quiet --no-project --python "${python:->=3.11}" "$runtime" || return
  fi
  "$1" pip sync --quiet --python "$runtime/bin/python" --require-hashes --no-build "$lock"
}

# uv as a wheel and all that it installs take a third of the time that pip takes.
with_fetched_uv() {
  local venv
  rm -rf "$runtime"
  "$python" -I -m venv --without-pip "$runtime" &
  venv=$!
  "$python" -I -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-deps --require-hashes \
    --only-binary :all: --no-compile --target "$runtime.uv" -r "$action/action/requirements-uv.lock" || {
    wait "$venv"
    return 1
  }
  wait "$venv" && with_uv "$runtime.uv/bin/uv"
}

with_pip() {
  local pip=("$python" -I -m pip --python "$runtime/bin/python")
  rm -rf "$runtime"
  "$python" -I -m venv --without-pip "$runtime" || return
  if ! "${pip[@]}" --version >/dev/null 2>&1; then
    "$runtime/bin/python" -I -m ensurepip >/dev/null || return
    pip=("$runtime/bin/python" -I -m pip)
  fi
  "${pip[@]}" install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: --no-compile \
    -r "$lock"
}

install() {
  find_python
  if command -v uv >/dev/null 2>&1 && with_uv uv; then
    return
  fi
  if [ -z "$python" ]; then
    echo "neither Python 3.11 or newer nor uv is there: put actions/setup-python before this step" >&2
    return 1
  fi
  with_fetched_uv || with_pip
}

# What an installer would leave: where the package is, its version, and a way to call it. The latter comes last, since
# its presence says that the rest is there. -I: the working directory may be a stranger's, and is not imported from.
add_program() {
  local site
  site=$("$runtime/bin/python" -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))') || return
  printf '%s\n' "$action" >"$site/runner_provisioner.pth" || return
  mkdir -p "$site/runner_provisioner-$version.dist-info" || return
  printf 'Metadata-Version: 2.1\nName: runner-provisioner\nVersion: %s\n' "$version" \
    >"$site/runner_provisioner-$version.dist-info/METADATA" || return
  # shellcheck disable=SC2016 # for the script that is written
  printf '#!/bin/sh\nexec "${0%%/*}/python" -I -m runner_provisioner "$@"\n' >"$program.new" || return
  chmod 755 "$program.new" || return
  mv "$program.new" "$program"
}

if [ ! -x "$program" ]; then
  echo "::group::Install runner-provisioner $version"
  rm -rf "$runtime"
  mkdir -p "$RUNNER_TEMP/runner-provisioner"
  # uv and pip look for settings in the working directory.
  cd "$RUNNER_TEMP/runner-provisioner"
  if ! { install && add_program; }; then
    echo "::endgroup::"
    echo "::error title=runner-provisioner::the program could not be installed; the log of this step says why"
    exit 1
  fi
  rm -rf "$runtime.uv"
  echo "::endgroup::"
fi
printf 'program=%s\n' "$program" >>"$GITHUB_OUTPUT"
