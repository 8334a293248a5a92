#!/bin/bash
# Starts the listener again as long as it asks for that. A stand-in for the program of the same name.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CHILD=''

# With RUNNER_MANUALLY_TRAP_SIG the helper and all below it form a group that is told to stop; without it this shell
# just dies of the signal and leaves the listener behind, as the real one does.
run_once() {
  if [[ -z ${RUNNER_MANUALLY_TRAP_SIG:-} ]]; then
    "$ROOT/run-helper.sh" "$@"
    return
  fi
  set -m
  trap 'kill -INT -- "-$CHILD" 2>/dev/null' INT TERM
  "$ROOT/run-helper.sh" "$@" &
  CHILD=$!
  while kill -0 "$CHILD" 2>/dev/null; do
    wait "$CHILD"
  done
  # Asked once more: a wait that a signal has cut short says nothing of the child.
  wait "$CHILD"
}

while :; do
  run_once "$@"
  code=$?
  if ((code != 2)); then
    echo 'Exiting runner...'
    exit "$code"
  fi
  echo 'Restarting runner...'
  sleep 5
done
