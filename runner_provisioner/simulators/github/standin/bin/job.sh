# shellcheck shell=bash
# shellcheck disable=SC2034 # what is set here is read by the scripts beside this one
# One job: hooks, steps, result.

SHUTDOWN_TEXT='The runner has received a shutdown signal. This can happen when the runner service is stopped, or a manually started runner is canceled.'
JOB_NAME=''
RESULT=''
PROTECTED=0 # a step that runs although the job is cancelled is not cancelled again

# load_job: what the server says of the job; exports its default environment.
load_job() {
  local line name
  http POST /_runner/job "Bearer $CREDENTIAL" '' || return 1
  field name
  JOB_NAME=$VALUE
  field workspace
  WORKSPACE=$VALUE
  MASKS=()
  for line in "${HTTP_LINES[@]}"; do
    case $line in
      'env '*)
        name=${line#env }
        unpack "${name#* }"
        export "${name%% *}=$VALUE" ;;
      'mask '*)
        unpack "${line#mask }"
        MASKS+=("$VALUE") ;;
    esac
  done
}

prepare_folders() {
  mkdir -p "$WORKSPACE" "$WORK/_temp/_github_workflow" "$WORK/_tool"
  GITHUB_EVENT_PATH=$WORK/_temp/_github_workflow/event.json
  RUNNER_WORKSPACE=${WORKSPACE%/*}
  RUNNER_TRACKING_ID=github_$RANDOM$RANDOM$RANDOM
  export GITHUB_EVENT_PATH RUNNER_WORKSPACE RUNNER_TRACKING_ID
  printf '{}\n' >"$GITHUB_EVENT_PATH"
}

# run_hook TITLE PATH: fails when the hook does.
run_hook() {
  [[ -n $2 ]] || return 0
  log "##[group]$1"
  log "A job hook has been configured: $2"
  new_files
  run_process 0 "$WORKSPACE" bash -e "$2"
  read_pairs "$FILES/env" export_pair || true
  log '##[endgroup]'
  ((CODE == 0)) && [[ -z $REASON ]] && return 0
  log "##[error]Process completed with exit code $CODE."
  return 1
}

# next_step: asks for the next one, telling MESSAGE; fails when there is none.
next_step() {
  local tries=0
  until http POST /_runner/next "Bearer $CREDENTIAL" "$MESSAGE"; do
    tries=$((tries + 1))
    ((tries < 5 && !STOP_ASKED)) || return 1
    sleep 1
  done
  field step
}

load_step() {
  local line name
  STEP_SHELL=()
  STEP_PATH=''
  STEP_ENV=()
  for line in "${HTTP_LINES[@]}"; do
    case $line in
      'env '*)
        name=${line#env }
        unpack "${name#* }"
        STEP_ENV+=("${name%% *}=$VALUE") ;;
      'shell '*)
        unpack "${line#shell }"
        STEP_SHELL+=("$VALUE") ;;
      'path '*)
        unpack "${line#path }"
        STEP_PATH+=$VALUE: ;;
    esac
  done
  field step
  STEP_NUMBER=$VALUE
  field name
  STEP_NAME=$VALUE
  field kind
  STEP_KIND=$VALUE
  field script
  STEP_SCRIPT=$VALUE
  field timeout
  STEP_TIMEOUT=${VALUE:-0}
  field protected && PROTECTED=1
  field directory
  STEP_DIRECTORY=$VALUE
  [[ $STEP_DIRECTORY == /* ]] || STEP_DIRECTORY=$WORKSPACE${STEP_DIRECTORY:+/$STEP_DIRECTORY}
}

# checkout: the tree that the server keeps for the repository, into the workspace.
checkout() {
  log "##[group]$STEP_NAME"
  { exec 7<>"/dev/tcp/$SERVER_HOST/$SERVER_PORT"; } 2>/dev/null || return 1
  CODE=1
  if send_request 7 GET /_runner/workspace "Bearer $CREDENTIAL" '' && read_head 7; then
    if [[ $HTTP_STATUS == 200 ]]; then
      tar -xf - -C "$WORKSPACE" --no-same-owner <&7
      CODE=$?
    else
      IFS= read -r -u 7 HTTP_ERROR
      unpack "${HTTP_ERROR#error }"
      log "##[error]$VALUE"
    fi
  fi
  exec 7>&-
  log '##[endgroup]'
  return "$CODE"
}

# run_script: the step's script as a file, run by its shell with the step's environment.
run_script() {
  local file=$WORK/_temp/$RANDOM$RANDOM$RANDOM.sh word command=()
  printf '%s\n' "$STEP_SCRIPT" >"$file"
  for word in "${STEP_SHELL[@]}"; do
    command+=("${word//\{0\}/$file}")
  done
  log "##[group]$STEP_NAME"
  while IFS= read -r word; do
    log "$word"
  done <<<"$STEP_SCRIPT"
  log "shell: ${STEP_SHELL[*]}"
  log '##[endgroup]'
  ship
  PROCESS_ENV=("${STEP_ENV[@]}" "PATH=$STEP_PATH$PATH")
  run_process "$STEP_TIMEOUT" "$STEP_DIRECTORY" "${command[@]}"
  PROCESS_ENV=()
  rm -f "$file"
}

# run_step: sets OUTCOME and prepares MESSAGE for the server.
run_step() {
  OUTCOME='success'
  REASON=''
  new_files
  if [[ $STEP_KIND == checkout ]]; then
    checkout || OUTCOME='failure'
  else
    run_script
    ((CODE == 0)) || OUTCOME='failure'
    case $REASON in
      timeout) log "##[error]The action '$STEP_NAME' has timed out after $((STEP_TIMEOUT / 60)) minutes." ;;
      cancel | shutdown) OUTCOME='cancelled' ;;
      *) ((CODE == 0)) || log "##[error]Process completed with exit code $CODE." ;;
    esac
    [[ $REASON != timeout ]] || OUTCOME='failure'
  fi
  MESSAGE=''
  if ! collect_files; then
    log "##[error]Unable to process file command successfully. $FILE_PROBLEM"
    OUTCOME='failure'
  fi
  add outcome "$OUTCOME"
  add number "$STEP_NUMBER"
}

run_steps() {
  MESSAGE=''
  while ! ((STOP_ASKED)) && next_step; do
    load_step
    run_step
    ship
  done
}

# report: the job is over; repeated, because the answer decides whether it has ended well.
report() {
  local tries=0
  ship
  MESSAGE=''
  add result "$RESULT"
  until http POST /_runner/complete "Bearer $CREDENTIAL" "$MESSAGE"; do
    tries=$((tries + 1))
    ((tries < 5 && HTTP_STATUS == 0)) || break
    sleep 1
  done
  field conclusion
}

result_word() {
  case $VALUE in
    success) RESULT='Succeeded' ;;
    cancelled) RESULT='Canceled' ;;
    skipped) RESULT='Skipped' ;;
    *) RESULT='Failed' ;;
  esac
}

run_job() {
  LAST_RENEWAL=$SECONDS
  load_job || {
    echo "The job cannot be read: $HTTP_ERROR"
    return
  }
  say "Running job: $JOB_NAME"
  prepare_folders
  RUNNER_NAME=$RUNNER_NAME_SET
  export RUNNER_NAME
  if run_hook 'Set up runner' "${ACTIONS_RUNNER_HOOK_JOB_STARTED:-}"; then
    run_steps
  else
    RESULT='hook'
  fi
  run_hook 'Complete runner' "${ACTIONS_RUNNER_HOOK_JOB_COMPLETED:-}" || RESULT='hook'
  if ((STOP_ASKED)); then
    RESULT='shutdown'
  fi
  kill_left_behind
  report
  result_word
  say "Job $JOB_NAME completed with result: $RESULT"
  rm -f "$ROOT/.runner" "$ROOT/.credentials" "$ROOT/.credentials_rsaparams"
}
