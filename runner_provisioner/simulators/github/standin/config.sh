#!/bin/bash
# Registers this folder as a runner. A stand-in for the program of the same name: same options, environment, exit codes.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=/dev/null
source "$ROOT/bin/http.sh"

fail() {
  printf '%s\n' "$@" >&2
  exit 1
}

if [[ $(id -u) -eq 0 && -z ${RUNNER_ALLOW_RUNASROOT:-} ]]; then
  fail 'Must not run with sudo'
fi

trap ':' PIPE
declare -A ARG=()
COMMAND=configure

# Like the real one: every argument may come from ACTIONS_RUNNER_INPUT_<NAME>, which is then removed.
take_environment() {
  local variable name
  for variable in "${!ACTIONS_RUNNER_INPUT_@}"; do
    name=${variable#ACTIONS_RUNNER_INPUT_}
    ARG[${name,,}]=${!variable}
    unset "$variable"
  done
}

take_arguments() {
  while (($#)); do
    case $1 in
      configure | remove) COMMAND=$1 ;;
      --token | --pat | --token=* | --pat=*)
        fail 'A token must not be an argument, which every process can read: use ACTIONS_RUNNER_INPUT_TOKEN.' ;;
      --unattended | --ephemeral | --replace | --disableupdate | --no-default-labels | --runasservice | --local)
        ARG[${1#--}]=true ;;
      --url | --name | --labels | --runnergroup | --work)
        (($# > 1)) || fail "The option $1 needs a value."
        ARG[${1#--}]=$2
        shift ;;
      --version) sed -n 1p "$ROOT/bin/version" && exit 0 ;;
      *) fail "Unrecognized command-line input arguments: '${1#--}'." ;;
    esac
    shift
  done
}

is_set() {
  local value=${ARG[$1]:-false}
  [[ ${value,,} == true || $value == 1 ]]
}

forget_configuration() {
  rm -f "$ROOT/.runner" "$ROOT/.credentials" "$ROOT/.credentials_rsaparams"
}

# shellcheck disable=SC2153 # VALUE is what setting has found
remove_runner() {
  [[ -e $ROOT/.runner ]] || fail 'The runner is not configured.'
  setting "$ROOT/.runner" ServerUrl
  use_server "$VALUE" || fail "Only plain http on loopback can be spoken here, not $VALUE"
  setting "$ROOT/.runner" AgentName
  MESSAGE=''
  add name "$VALUE"
  if ! is_set local; then
    http POST /_runner/remove "RemoteAuth ${ARG[token]:-}" "$MESSAGE" || refused
  fi
  forget_configuration
  printf '√ Runner removed successfully\n√ Removed .credentials\n√ Removed .runner\n'
}

refused() {
  case $HTTP_STATUS in
    401) fail "Http response code: Unauthorized from 'POST ${ARG[url]:-}'" "$HTTP_ERROR" ;;
    404) fail "Http response code: NotFound from 'POST ${ARG[url]:-}'" "$HTTP_ERROR" ;;
    409) fail "A runner exists with the same name ${ARG[name]:-}." "$HTTP_ERROR" ;;
    *) fail "Http response code: $HTTP_STATUS" "$HTTP_ERROR" ;;
  esac
}

check_arguments() {
  [[ ! -e $ROOT/.runner ]] || fail 'Cannot configure the runner because it is already configured.' \
    "To reconfigure the runner, run 'config.sh remove' first."
  is_set unattended || fail 'This stand-in asks no questions: --unattended is missing.'
  is_set ephemeral || fail 'This stand-in takes one job only: --ephemeral is missing.'
  [[ -n ${ARG[url]:-} ]] || fail 'Invalid configuration provided for url. Terminating unattended configuration.'
  [[ -n ${ARG[token]:-} ]] || fail 'Invalid configuration provided for token. Terminating unattended configuration.'
  [[ ${ARG[name]} =~ ^[A-Za-z0-9._-]{1,64}$ ]] || fail 'Invalid configuration provided for name.'
  use_server "${ARG[url]}" || fail "Only plain http on loopback can be spoken here, not ${ARG[url]}"
}

register() {
  MESSAGE=''
  add url "${ARG[url]}"
  add name "${ARG[name]}"
  add labels "${ARG[labels]:-}"
  add group "${ARG[runnergroup]:-}"
  add work "${ARG[work]}"
  add ephemeral 1
  add version "$(sed -n 1p "$ROOT/bin/version")"
  ! is_set replace || add replace 1
  ! is_set no-default-labels || add no_default_labels 1
  http POST /_runner/register "RemoteAuth ${ARG[token]}" "$MESSAGE" || refused
}

save() {
  local id credential
  field id
  id=$VALUE
  field credential
  credential=$VALUE
  umask 077
  printf '{\n  "scheme": "OAuth",\n  "data": {\n    "clientId": "%s"\n  }\n}\n' "$credential" >"$ROOT/.credentials"
  printf '{}\n' >"$ROOT/.credentials_rsaparams"
  printf '{\n  "AgentId": "%s",\n  "AgentName": "%s",\n  "PoolId": "1",\n  "PoolName": "Default",\n' \
    "$id" "${ARG[name]}" >"$ROOT/.runner"
  printf '  "DisableUpdate": "%s",\n  "Ephemeral": "true",\n  "ServerUrl": "%s",\n  "GitHubUrl": "%s",\n' \
    "${ARG[disableupdate]:-false}" "http://$SERVER_HOST:$SERVER_PORT" "${ARG[url]}" >>"$ROOT/.runner"
  printf '  "WorkFolder": "%s"\n}\n' "${ARG[work]}" >>"$ROOT/.runner"
}

take_environment
take_arguments "$@"
ARG[name]=${ARG[name]:-${HOSTNAME:-runner}}
ARG[work]=${ARG[work]:-_work}
if [[ $COMMAND == remove ]]; then
  remove_runner
  exit 0
fi
check_arguments
register
printf '\n√ Connected to GitHub\n'
save
printf '\n√ Runner successfully added\n√ Runner connection is good\n\n√ Settings Saved.\n\n'
