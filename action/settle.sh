#!/usr/bin/env bash
# Ends what an unfinished start of this step left: pods that its state file knows, or that it never got an answer about.
# What an earlier step's start made is told apart by the copy of its state file that run.sh has taken.
set -euo pipefail
# shellcheck source=action/trim.sh
. "$GITHUB_ACTION_PATH/action/trim.sh"
export RUNNER_PROVISIONER_IN_ACTION=true # errors name inputs, not options

pairs=("repository=$INPUT_REPOSITORY" "organization=$INPUT_ORGANIZATION" "owner=$INPUT_OWNER")
pairs+=("run-id=$INPUT_RUN_ID" "attempt=$INPUT_ATTEMPT")
if [ "$INPUT_MODE" = rerun ]; then
  arguments=(rerun --own)
else
  arguments=(stop --own)
  pairs+=("key=$INPUT_KEY")
fi
for pair in "${pairs[@]}"; do
  if [ -n "${pair#*=}" ]; then
    arguments+=("--$pair")
  fi
done

# Where there is none of the action's own, the job's environment says where the history is.
if [ -n "$HISTORY" ]; then
  export RUNNER_PROVISIONER_HISTORY=$HISTORY
fi

# A start writes its state before it rents: without a file that is new or has changed there is nothing to settle.
for state in "$RUNNER_TEMP"/runner-provisioner/rp-*.json; do
  if [ -e "$state" ] && ! cmp -s "$state" "${state%.json}.before"; then
    exec "$PROGRAM" "${arguments[@]}"
  fi
done
