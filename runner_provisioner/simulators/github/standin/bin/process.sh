# shellcheck shell=bash
# shellcheck disable=SC2034 # what is set here is read by the scripts beside this one
# Runs one process of a job: its lines go to the log as they come, and it ends when it must.

INTERRUPT_GRACE=7500 # milliseconds from SIGINT to SIGTERM, as the real runner waits
TERMINATE_GRACE=2500 # and from there until it is killed
RENEW_EVERY=15
SHIP_AT=50

MASKS=()
BATCH=''
BATCHED=0
GROUPS_SEEN=()
CHILD=''
PROCESS_ENV=()
LAST_RENEWAL=0

# now: milliseconds, in NOW.
now() {
  if [[ -n ${EPOCHREALTIME:-} ]]; then
    NOW=${EPOCHREALTIME/[.,]/}
    NOW=${NOW%???}
  else
    NOW=$((SECONDS * 1000))
  fi
}

# log TEXT: a line for the job's log, masked.
log() {
  local line=$1 mask
  for mask in ${MASKS[@]+"${MASKS[@]}"}; do
    line=${line//"$mask"/***}
  done
  BATCH+=$line$'\n'
  BATCHED=$((BATCHED + 1))
  [[ ${ACTIONS_RUNNER_PRINT_LOG_TO_STDOUT:-} != 1 ]] || printf '%s\n' "$line"
  ((BATCHED < SHIP_AT)) || ship
}

# ship: send what is in the batch.
ship() {
  [[ -n $BATCH ]] || return 0
  printf '%s' "$BATCH" >>"$DIAGNOSTICS/Worker_$STARTED-utc.log"
  http POST /_runner/log "Bearer $CREDENTIAL" "$BATCH" || true
  BATCH=''
  BATCHED=0
}

# command_text TEXT: undo the escapes of a workflow command, in TEXT.
command_text() {
  TEXT=${1//%0D/$'\r'}
  TEXT=${TEXT//%0A/$'\n'}
  TEXT=${TEXT//%25/%}
}

add_masks() {
  local line
  command_text "$1"
  while IFS= read -r line; do
    line=${line%$'\r'}
    [[ -z ${line//[[:space:]]/} ]] || MASKS+=("$line")
  done <<<"$TEXT"
}

# take_line LINE: a line that the process wrote; workflow commands are obeyed.
take_line() {
  local line=${1%$'\r'}
  case $line in
    ::add-mask::*)
      add_masks "${line#::add-mask::}"
      log '::add-mask::***' ;;
    ::error*::* | ::warning*::* | ::notice*::* | ::debug*::*)
      TEXT=${line#::}
      log "##[${TEXT%%[ :]*}]${line#::*::}" ;;
    ::group::*) log "##[group]${line#::group::}" ;;
    ::endgroup::*) log '##[endgroup]' ;;
    *) log "$line" ;;
  esac
}

# tick: what has to be looked at now and then while a process runs.
tick() {
  ship
  next_news 0.01
  [[ $NEWS != cancel && $NEWS != gone ]] || CANCEL_ASKED=1
  if ((SECONDS - LAST_RENEWAL >= RENEW_EVERY)); then
    LAST_RENEWAL=$SECONDS
    http POST /_runner/renew "Bearer $CREDENTIAL" '' || true
    ((SESSION_OPEN)) || open_session || true
  fi
}

# escalate: the next signal that is due for a process that has to end. The first two go to the process alone.
escalate() {
  now
  if ((ENDING == 0)); then
    kill -INT "$CHILD" 2>/dev/null
    ENDING=1
    NEXT_SIGNAL=$((NOW + INTERRUPT_GRACE))
  elif ((ENDING == 1 && NOW >= NEXT_SIGNAL)); then
    kill -TERM "$CHILD" 2>/dev/null
    ENDING=2
    NEXT_SIGNAL=$((NOW + TERMINATE_GRACE))
  elif ((ENDING == 2 && NOW >= NEXT_SIGNAL)); then
    kill -KILL -- "-$CHILD" 2>/dev/null
    ENDING=3
  fi
}

# must_end DEADLINE: whether the process has to end now; says why in REASON.
must_end() {
  if ((STOP_ASKED)) && [[ $REASON != shutdown ]]; then
    REASON='shutdown'
    log "##[error]$SHUTDOWN_TEXT"
  elif ((CANCEL_ASKED && !PROTECTED)) && [[ -z $REASON ]]; then
    REASON='cancel'
    log '##[error]The operation was canceled.'
  elif (($1 > 0 && SECONDS >= $1)) && [[ -z $REASON ]]; then
    REASON='timeout'
  fi
  [[ -n $REASON ]]
}

# read_output: lines until the process has ended; CHILD is its process and its group.
read_output() {
  local line='' part deadline=$1 looked=-1 gone_at=0
  ENDING=0
  NEXT_SIGNAL=0
  while :; do
    part=''
    if IFS= read -r -t 0.1 -u 8 part; then
      take_line "$line$part"
      line=''
      ((looked != SECONDS)) || continue
    else
      line+=$part
      if ! kill -0 "$CHILD" 2>/dev/null && [[ -z $part ]]; then
        break
      fi
    fi
    looked=$SECONDS
    tick
    ! must_end "$deadline" || escalate
    if ! kill -0 "$CHILD" 2>/dev/null; then
      # Something it left behind may write for ever: what is in the pipe after a second is not waited for.
      ((gone_at)) || gone_at=$SECONDS
      ((SECONDS - gone_at < 2)) || break
    fi
  done
  [[ -z $line ]] || take_line "$line"
}

# export_all: PROCESS_ENV becomes the environment; names that bash cannot hold are left in ODD for env.
export_all() {
  local entry
  ODD=()
  for entry in ${PROCESS_ENV[@]+"${PROCESS_ENV[@]}"}; do
    if [[ ${entry%%=*} =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]]; then
      export "${entry?}"
    else
      ODD+=("$entry")
    fi
  done
}

# run_process SECONDS DIRECTORY COMMAND...: its exit code in CODE; REASON is shutdown, cancel, timeout or empty.
run_process() {
  local limit=$1 directory=$2 pipe=$WORK/_temp/_pipe deadline=0
  shift 2
  CODE=1
  REASON=''
  rm -f "$pipe"
  mkfifo -m 600 "$pipe" || return
  exec 8<>"$pipe"
  rm -f "$pipe"
  ((limit == 0)) || deadline=$((SECONDS + limit))
  set -m
  (
    trap - INT TERM PIPE
    cd "$directory" || exit 1
    export_all
    exec ${ODD[@]+env "${ODD[@]}"} "$@"
  ) >&8 2>&8 </dev/null 8>&- 9>&- &
  CHILD=$!
  set +m
  GROUPS_SEEN+=("$CHILD")
  read_output "$deadline"
  wait "$CHILD" 2>/dev/null
  CODE=$?
  exec 8>&-
  ship
}

# kill_left_behind: the real runner ends what its job's steps have left running.
kill_left_behind() {
  local group
  for group in ${GROUPS_SEEN[@]+"${GROUPS_SEEN[@]}"}; do
    kill -KILL -- "-$group" 2>/dev/null
  done
}
