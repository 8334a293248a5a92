#!/usr/bin/env bash
# Starts the simulated services for the rest of a job and makes later steps use them; sets their credentials as outputs.
#
# The runner gives every step GitHub's own addresses and does not let a workflow change them. Bash reads the file that
# BASH_ENV names before each script, and the action consists of bash scripts.
set -euo pipefail

environment=$RUNNER_TEMP/simulated.env
nohup .venv/bin/runner-provisioner simulate "$@" >"$environment" 2>"$RUNNER_TEMP/simulated.log" &
for ((round = 0; round < 100; round++)); do
  if grep -q RUNNER_PROVISIONER_ "$environment"; then
    break
  fi
  sleep 0.2
done
cat "$RUNNER_TEMP/simulated.log"
# shellcheck disable=SC1090 # it was just written
. "$environment"

key=$(base64 <"$GITHUB_APP_PRIVATE_KEY_PATH" | tr -d '\n')
echo "::add-mask::$key"
echo "::add-mask::$RUNPOD_API_KEY"
{
  echo "runpod-api-key=$RUNPOD_API_KEY"
  echo "github-app-id=$GITHUB_APP_ID"
  echo "github-app-private-key=$key"
} >>"$GITHUB_OUTPUT"

# The credentials come as inputs of the action, like everybody's.
grep -vE '^export (RUNPOD_API_KEY|GITHUB_APP_)' "$environment" >"$environment.addresses"
echo "BASH_ENV=$environment.addresses" >>"$GITHUB_ENV"
