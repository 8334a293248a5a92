#!/bin/bash
# Keeps a session with the server, takes one job, runs it, and ends. Exit codes are those of the real listener.
# shellcheck disable=SC2034 # what is set here is read by the scripts beside this one

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=/dev/null
source "$ROOT/bin/http.sh"
# shellcheck source=/dev/null
source "$ROOT/bin/files.sh"
# shellcheck source=/dev/null
source "$ROOT/bin/process.sh"
# shellcheck source=/dev/null
source "$ROOT/bin/job.sh"

JIT=${ACTIONS_RUNNER_INPUT_JITCONFIG:-}
CREDENTIAL=''
STOP_ASKED=0
CANCEL_ASKED=0
SESSION_OPEN=0
TERMINATED=1
CONFLICT=5

take_arguments() {
  local variable
  for variable in "${!ACTIONS_RUNNER_INPUT_@}"; do
    unset "$variable"
  done
  while (($#)); do
    case $1 in
      run | --once) ;;
      --jitconfig)
        JIT=${2:-}
        shift ;;
      --startuptype) shift ;;
      --token | --pat) echo 'A token must not be an argument.' >&2 && exit "$TERMINATED" ;;
      *) echo "Unrecognized command-line input arguments: '${1#--}'." >&2 && exit "$TERMINATED" ;;
    esac
    shift
  done
}

# A JIT configuration is JSON of the files' names and their contents, all in base64.
unpack_jit() (
  umask 077 # for these files alone: hence the subshell
  json=$(printf '%s' "$JIT" | base64 -d 2>/dev/null) || return 1
  for name in .runner .credentials .credentials_rsaparams; do
    content=$(printf '%s' "$json" | sed -n "s/.*\"\\$name\": *\"\\([^\"]*\\)\".*/\\1/p")
    [[ -n $content ]] || return 1
    printf '%s' "$content" | base64 -d >"$ROOT/$name" || return 1
  done
)

load_environment() {
  local line
  if [[ -f $ROOT/.env ]]; then
    while IFS= read -r line || [[ -n $line ]]; do
      [[ $line =~ ^[A-Za-z_][A-Za-z0-9_]*= ]] && export "${line?}"
    done <"$ROOT/.env"
  fi
  [[ ! -f $ROOT/.path ]] || PATH=$(<"$ROOT/.path")
}

load_settings() {
  if [[ ! -f $ROOT/.runner || ! -f $ROOT/.credentials ]]; then
    echo 'An error occurred: Not configured. Run config.sh to configure the runner.' >&2
    exit "$TERMINATED"
  fi
  setting "$ROOT/.runner" AgentName
  RUNNER_NAME_SET=$VALUE
  setting "$ROOT/.runner" WorkFolder
  WORK=$VALUE
  [[ $WORK == /* ]] || WORK=$ROOT/$WORK
  setting "$ROOT/.credentials" clientId
  CREDENTIAL=$VALUE
  setting "$ROOT/.runner" ServerUrl
  use_server "$VALUE" || {
    echo "Only plain http on loopback can be spoken here, not $VALUE" >&2
    exit "$TERMINATED"
  }
}

# open_session: 0 when the connection (descriptor 9) stands; sets HTTP_STATUS.
open_session() {
  HTTP_STATUS=0
  { exec 9<>"/dev/tcp/$SERVER_HOST/$SERVER_PORT"; } 2>/dev/null || return 1
  MESSAGE=''
  add version "$(sed -n 1p "$ROOT/bin/version")"
  add work "$WORK"
  send_request 9 POST /_runner/session "Bearer $CREDENTIAL" "$MESSAGE" && read_head 9 && [[ $HTTP_STATUS == 200 ]] || {
    exec 9>&-
    return 1
  }
  SESSION_OPEN=1
}

close_session() {
  ((SESSION_OPEN)) || return 0
  exec 9>&-
  SESSION_OPEN=0
}

# next_news SECONDS: what the server says within that time, in NEWS ('' for nothing, 'end' when it hung up).
next_news() {
  local line status
  NEWS=''
  ((SESSION_OPEN)) || return 0
  while :; do
    IFS= read -r -t "$1" -u 9 line
    status=$?
    if ((status == 0)) && [[ $line == 'msg '* ]]; then
      NEWS=${line#msg }
      return
    elif ((status > 128)); then
      return
    elif ((status != 0)); then
      close_session
      NEWS='end'
      return
    fi
  done
}

connect() {
  while ! ((STOP_ASKED)); do
    open_session && return 0
    case $HTTP_STATUS in
      401)
        echo 'The runner no longer exists on the server, stop the service, no retry needed.'
        exit 0 ;;
      409)
        echo 'A session for this runner already exists.'
        exit "$CONFLICT" ;;
    esac
    say 'Runner connect error. Retrying until reconnected.'
    sleep 1
  done
}

listen() {
  local greeted=0
  while ! ((STOP_ASKED)); do
    ((SESSION_OPEN)) || connect
    next_news 0.2
    case $NEWS in
      ready)
        if ! ((greeted)); then
          greeted=1
          printf '\n√ Connected to GitHub\n\nCurrent runner version: '\''%s'\''\n' "$(sed -n 1p "$ROOT/bin/version")"
          say 'Listening for Jobs'
        fi ;;
      job)
        run_job
        return ;;
      gone)
        echo 'The runner no longer exists on the server, stop the service, no retry needed.'
        return ;;
    esac
  done
  echo 'Exiting...'
}

take_arguments "$@"
load_environment
if [[ -n $JIT ]]; then
  unpack_jit || {
    echo 'An error occurred: the JIT configuration cannot be read.' >&2
    exit "$TERMINATED"
  }
fi
load_settings
DIAGNOSTICS=$ROOT/_diag
STARTED=$(date -u '+%Y%m%d-%H%M%S')
mkdir -p "$DIAGNOSTICS"
trap 'STOP_ASKED=1' INT TERM
trap ':' PIPE
listen
close_session
exit 0
