#!/usr/bin/env bash
# Refuses inputs that cannot be right before anything is installed: one error, which names the input.
# shellcheck disable=SC2153 # the inputs come by the environment
set -euo pipefail
export LC_ALL=C
# shellcheck source=action/trim.sh
. "$GITHUB_ACTION_PATH/action/trim.sh"

escaped() { # MESSAGE
  local message=$1
  message=${message//'%'/%25}
  message=${message//$'\r'/%0D}
  message=${message//$'\n'/%0A}
  printf '%s' "$message"
}

fail() { # MESSAGE
  printf '::error title=runner-provisioner::%s\n' "$(escaped "$1")"
  exit 2
}

# A machine bills until its stop has run: there an input that does not decide which one is ended is only told of.
refuse() { # INPUT MESSAGE
  case $INPUT_MODE/$1 in
    stop/all | stop/attempt | stop/key | stop/organization | stop/owner | stop/repository | stop/run-id) fail "$2" ;;
    stop/*) printf '::warning title=runner-provisioner::%s\n' "$(escaped "$2; stop goes on without it")" ;;
    *) fail "$2" ;;
  esac
}

flag() { # INPUT VALUE
  case $2 in
    true | false | '') ;;
    *) refuse "$1" "input '$1' is '$2': write true or false" ;;
  esac
}

# The log of a step is read for commands (`::add-mask::x`), and what is printed there may hold none.
single() { # INPUT VALUE
  case $2 in
    *[[:cntrl:]]*) refuse "$1" "input '$1' holds a line break or another control character: write it on one line" ;;
  esac
}

lines() { # INPUT LINES
  local line text=${2//$'\t'/ }
  while IFS= read -r line || [ -n "$line" ]; do
    line=${line#"${line%%[![:space:]]*}"}
    line=${line%"${line##*[![:space:]]}"}
    case $line in
      ::*) refuse "$1" "input '$1' has a line that begins with ::, which GitHub takes for a command: change that line" ;;
      *[[:cntrl:]]*) refuse "$1" "input '$1' holds a control character: remove it" ;;
    esac
  done <<<"$text"
}

only_in() { # INPUT VALUE MODE
  if [ -n "$2" ] && [ "$2" != false ] && [ "$INPUT_MODE" != "$3" ]; then
    refuse "$1" "input '$1' belongs to mode '$3' and has no meaning with mode '$INPUT_MODE': remove it or change the mode"
  fi
}

if [ "${RUNNER_OS:-}" = Windows ]; then
  fail "this action runs on Linux and macOS: give the job runs-on: ubuntu-latest"
fi

single mode "$INPUT_MODE"
single repository "$INPUT_REPOSITORY"
single organization "$INPUT_ORGANIZATION"
single owner "$INPUT_OWNER"
single key "$INPUT_KEY"
single run-id "$INPUT_RUN_ID"
single attempt "$INPUT_ATTEMPT"
single unique-label "$INPUT_UNIQUE_LABEL"
single max-attempts "$INPUT_MAX_ATTEMPTS"
single min-vram "$INPUT_MIN_VRAM"
single rank "$INPUT_RANK"
single gpu-count "$INPUT_GPU_COUNT"
single interruptible "$INPUT_INTERRUPTIBLE"
single max-price "$INPUT_MAX_PRICE"
single max-cost "$INPUT_MAX_COST"
single budget-day "$INPUT_BUDGET_DAY"
single budget-month "$INPUT_BUDGET_MONTH"
single budget "$INPUT_BUDGET"
single bid "$INPUT_BID"
single image "$INPUT_IMAGE"
single disk "$INPUT_DISK"
single volume "$INPUT_VOLUME"
single volume-mount "$INPUT_VOLUME_MOUNT"
single cloud "$INPUT_CLOUD"
single min-vcpus "$INPUT_MIN_VCPUS"
single min-memory "$INPUT_MIN_MEMORY"
single network-volume "$INPUT_NETWORK_VOLUME"
single cuda "$INPUT_CUDA"
single min-download "$INPUT_MIN_DOWNLOAD"
single min-upload "$INPUT_MIN_UPLOAD"
single run-as "$INPUT_RUN_AS"
single registration "$INPUT_REGISTRATION"
single min-driver "$INPUT_MIN_DRIVER"
single gate "$INPUT_GATE"
single runner-group "$INPUT_RUNNER_GROUP"
single ssh-key "$INPUT_SSH_KEY"
single idle "$INPUT_IDLE"
single start-timeout "$INPUT_START_TIMEOUT"
single boot-timeout "$INPUT_BOOT_TIMEOUT"
single lifetime "$INPUT_LIFETIME"
single accept-no-kill-time "$INPUT_ACCEPT_NO_KILL_TIME"
single all "$INPUT_ALL"
single allow-untrusted "$INPUT_ALLOW_UNTRUSTED"
single price-per-hour "$INPUT_PRICE_PER_HOUR"
single started-at "$INPUT_STARTED_AT"
single cancel-stuck "$INPUT_CANCEL_STUCK"
single dry-run "$INPUT_DRY_RUN"
single state-cache "$INPUT_STATE_CACHE"
lines provider "$INPUT_PROVIDER"
lines gpu "$INPUT_GPU"
lines port "$INPUT_PORT"
lines region "$INPUT_REGION"
lines extra-labels "$INPUT_EXTRA_LABELS"
lines env "$INPUT_ENV"

case $INPUT_MODE in
  start | stop | watch | rerun | cleanup) ;;
  *) fail "input 'mode' is '$INPUT_MODE': write start, stop, watch, rerun or cleanup" ;;
esac
if [ "$INPUT_MODE" = rerun ] && { [ -z "$INPUT_RUN_ID" ] || [ -z "$INPUT_ATTEMPT" ]; }; then
  fail "inputs 'run-id' and 'attempt' are needed with mode 'rerun': give it the run that failed"
fi

flag all "$INPUT_ALL"
flag cancel-stuck "$INPUT_CANCEL_STUCK"
flag dry-run "$INPUT_DRY_RUN"
flag allow-untrusted "$INPUT_ALLOW_UNTRUSTED"
flag state-cache "$INPUT_STATE_CACHE"
flag accept-no-kill-time "$INPUT_ACCEPT_NO_KILL_TIME"
only_in all "$INPUT_ALL" stop
only_in unique-label "$INPUT_UNIQUE_LABEL" start
only_in max-attempts "$INPUT_MAX_ATTEMPTS" rerun
only_in cancel-stuck "$INPUT_CANCEL_STUCK" cleanup
only_in dry-run "$INPUT_DRY_RUN" cleanup
if [ "$INPUT_MODE" != rerun ]; then
  only_in allow-untrusted "$INPUT_ALLOW_UNTRUSTED" start
fi

key='^[a-z0-9]([a-z0-9-]*[a-z0-9])?$'
if [[ -n $INPUT_KEY && ! $INPUT_KEY =~ $key ]]; then
  fail "input 'key' is '$INPUT_KEY': it may hold a-z, 0-9 and inner dashes only"
fi

if [ -n "$INPUT_BID" ] && [ "$INPUT_INTERRUPTIBLE" = never ] && [ "$INPUT_MODE" = start ]; then
  fail "input 'bid' contradicts input 'interruptible', which is never: a bid is for interruptible pods, remove one of them"
fi

# Without the records of earlier runs no budget can be reckoned; a machine of one's own may keep them by itself.
case ${RUNNER_PROVISIONER_HISTORY:-off} in off) keeps=$INPUT_STATE_CACHE ;; *) keeps=true ;; esac
if [ "$keeps" != true ] && [ "$INPUT_BUDGET" != advisory ] && [[ $INPUT_MODE == start || $INPUT_MODE == rerun ]]; then
  for budget in "budget-day:$INPUT_BUDGET_DAY" "budget-month:$INPUT_BUDGET_MONTH"; do
    if [ -n "${budget#*:}" ]; then
      fail "input '${budget%%:*}' needs what earlier runs have spent: give start and stop state-cache: true, or budget: advisory"
    fi
  done
fi

case $HAS_RUNPOD_API_KEY/$HAS_PRIME_API_KEY/$HAS_CELIUM_API_KEY in
  false/false/false)
    fail "inputs 'runpod-api-key', 'prime-api-key' and 'celium-api-key' are empty: give one of them a secret; secrets are empty in pull requests from forks"
    ;;
esac
case $HAS_GITHUB_APP_ID/$HAS_GITHUB_APP_PRIVATE_KEY/$HAS_GITHUB_TOKEN in
  true/true/false | false/false/true) ;;
  false/false/false) fail "inputs 'github-app-id' and 'github-token' are empty: give an App with its key, or a token" ;;
  true/false/false) fail "input 'github-app-private-key' is empty: give the key of the App that github-app-id names" ;;
  false/true/false) fail "input 'github-app-id' is empty: give the id of the App whose key github-app-private-key is" ;;
  *) fail "input 'github-token' contradicts inputs 'github-app-id' and 'github-app-private-key': give a token or an App" ;;
esac
