#!/usr/bin/env bash
# Turns the inputs into arguments and becomes the program: whoever signals this process signals the program.
set -euo pipefail
# shellcheck source=action/trim.sh
. "$GITHUB_ACTION_PATH/action/trim.sh"
export RUNNER_PROVISIONER_IN_ACTION=true # errors name inputs, not options

arguments=("$INPUT_MODE")

one() { # OPTION VALUE; an empty one is left to the program's default
  if [ -n "$2" ]; then
    arguments+=("--$1=$2")
  fi
}

many() { # OPTION LINES
  local line
  while IFS= read -r line || [ -n "$line" ]; do
    line=${line#"${line%%[![:space:]]*}"}
    line=${line%"${line##*[![:space:]]}"}
    one "$1" "$line"
  done <<<"$2"
}

flag() { # OPTION VALUE
  if [ "$2" = true ]; then
    arguments+=("--$1")
  fi
}

one repository "$INPUT_REPOSITORY"
one organization "$INPUT_ORGANIZATION"
one owner "$INPUT_OWNER"
# What is rented, by start and by rerun alike.
request() {
  many provider "$INPUT_PROVIDER"
  many gpu "$INPUT_GPU"
  one min-vram "$INPUT_MIN_VRAM"
  one rank "$INPUT_RANK"
  one gpu-count "$INPUT_GPU_COUNT"
  one interruptible "$INPUT_INTERRUPTIBLE"
  one max-price "$INPUT_MAX_PRICE"
  one max-cost "$INPUT_MAX_COST"
  one budget-day "$INPUT_BUDGET_DAY"
  one budget-month "$INPUT_BUDGET_MONTH"
  one budget "$INPUT_BUDGET"
  one bid "$INPUT_BID"
  one image "$INPUT_IMAGE"
  one disk "$INPUT_DISK"
  one volume "$INPUT_VOLUME"
  one volume-mount "$INPUT_VOLUME_MOUNT"
  many port "$INPUT_PORT"
  one cloud "$INPUT_CLOUD"
  one min-vcpus "$INPUT_MIN_VCPUS"
  one min-memory "$INPUT_MIN_MEMORY"
  many region "$INPUT_REGION"
  one network-volume "$INPUT_NETWORK_VOLUME"
  one cuda "$INPUT_CUDA"
  one min-download "$INPUT_MIN_DOWNLOAD"
  one min-upload "$INPUT_MIN_UPLOAD"
  many label "$INPUT_EXTRA_LABELS"
  many env "$INPUT_ENV"
  one run-as "$INPUT_RUN_AS"
  one registration "$INPUT_REGISTRATION"
  one min-driver "$INPUT_MIN_DRIVER"
  one gate "$INPUT_GATE"
  one runner-group "$INPUT_RUNNER_GROUP"
  one ssh-key "$INPUT_SSH_KEY"
  flag accept-no-kill-time "$INPUT_ACCEPT_NO_KILL_TIME"
  one idle "$INPUT_IDLE"
  one start-timeout "$INPUT_START_TIMEOUT"
  one boot-timeout "$INPUT_BOOT_TIMEOUT"
  one lifetime "$INPUT_LIFETIME"
  flag allow-untrusted "$INPUT_ALLOW_UNTRUSTED"
}

case $INPUT_MODE in
  start)
    one key "$INPUT_KEY"
    one run-id "$INPUT_RUN_ID"
    one attempt "$INPUT_ATTEMPT"
    one unique-label "$INPUT_UNIQUE_LABEL"
    request
    ;;
  stop)
    one key "$INPUT_KEY"
    one run-id "$INPUT_RUN_ID"
    one attempt "$INPUT_ATTEMPT"
    flag all "$INPUT_ALL"
    one price-per-hour "$INPUT_PRICE_PER_HOUR"
    one started-at "$INPUT_STARTED_AT"
    ;;
  watch)
    one key "$INPUT_KEY"
    one run-id "$INPUT_RUN_ID"
    one runner-group "$INPUT_RUNNER_GROUP"
    ;;
  rerun)
    one run-id "$INPUT_RUN_ID"
    one attempt "$INPUT_ATTEMPT"
    one max-attempts "$INPUT_MAX_ATTEMPTS"
    request
    ;;
  cleanup)
    many provider "$INPUT_PROVIDER"
    flag cancel-stuck "$INPUT_CANCEL_STUCK"
    flag dry-run "$INPUT_DRY_RUN"
    ;;
esac

# What earlier steps of this job started: the settling step of this one leaves it alone.
if [ "$INPUT_MODE" = start ]; then
  rm -f "$RUNNER_TEMP"/runner-provisioner/rp-*.before
  for state in "$RUNNER_TEMP"/runner-provisioner/rp-*.json; do
    if [ -e "$state" ]; then
      cp -p "$state" "${state%.json}.before"
    fi
  done
fi

# Where there is none of the action's own, the job's environment says where the history is.
if [ -n "$HISTORY" ]; then
  export RUNNER_PROVISIONER_HISTORY=$HISTORY
fi

# GitHub finds a secret in the log only as it was given: a value is shown unchanged, or not at all.
shown() { # ARGUMENT
  # With nothing after the sign it may be the last line of a key in base64, and no name.
  local variable='^(--env=[A-Za-z_][A-Za-z0-9_]*=)[^=]'
  if [[ $1 =~ $variable ]]; then
    printf '%s...\n' "${BASH_REMATCH[1]}"
    return
  fi
  case $1 in
    --env=*) echo "--env=..." ;;
    --*=*'##['* | --*=*[[:cntrl:]]*) printf '%s\n' "${1%%=*}=..." ;; # what could be a command of GitHub's
    *) printf '%s\n' "$1" ;;
  esac
}

echo "::group::runner-provisioner $INPUT_MODE, as it is called"
for argument in "${arguments[@]}"; do
  shown "$argument"
done
echo "::endgroup::"

exec "$PROGRAM" "${arguments[@]}"
