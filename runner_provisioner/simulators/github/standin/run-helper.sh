#!/bin/bash
# Runs the listener once and says by its exit code whether to start it again (2) or not (0). A stand-in.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

if [[ $(id -u) -eq 0 && -z ${RUNNER_ALLOW_RUNASROOT:-} ]]; then
  echo 'Must not run interactively with sudo'
  exit 1
fi

# A listener in the background of this shell would ignore SIGINT: it runs in front, and this shell outlives the signal.
trap ':' INT TERM
"$ROOT/bin/listener.sh" "$@"
code=$?
case $code in
  0) echo 'Runner listener exit with 0 return code, stop the service, no retry needed.' ;;
  1) echo 'Runner listener exit with terminated error, stop the service, no retry needed.' ;;
  2 | 3 | 4)
    echo "Runner listener exit with $code, re-launch runner in 5 seconds."
    exit 2 ;;
  5) echo 'Runner listener exit with Session Conflict error, stop the service, no retry needed.' ;;
  7)
    echo 'Runner listener exit with deprecated version exit code.'
    [[ ${ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE:-} != 1 ]] || exit 7 ;;
  *) echo "Runner listener exit with undefined return code $code, stop the service, no retry needed." ;;
esac
exit 0
