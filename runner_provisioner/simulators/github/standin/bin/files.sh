# shellcheck shell=bash
# shellcheck disable=SC2034 # what is set here is read by the scripts beside this one
# The files through which a step speaks: outputs, environment, path, summary.

FILES=''
COMMAND_FILES='output env path state step_summary'

# new_files: fresh empty ones for the next step, with their variables exported.
new_files() {
  local name file
  FILES=$WORK/_temp/_runner_file_commands/$RANDOM$RANDOM$RANDOM
  mkdir -p "$FILES"
  for name in $COMMAND_FILES; do
    file=$FILES/$name
    : >"$file"
    export "GITHUB_${name^^}=$file"
  done
}

# read_pairs FILE CALLBACK: calls CALLBACK NAME VALUE for each `name=value` and each heredoc; fails on anything else.
read_pairs() {
  local line name value delimiter closed
  while IFS= read -r line || [[ -n $line ]]; do
    line=${line%$'\r'}
    [[ -n $line ]] || continue
    if [[ ${line%%=*} == *'<<'* ]]; then
      name=${line%%<<*}
      delimiter=${line#*<<}
      value=''
      closed=0
      while IFS= read -r line || [[ -n $line ]]; do
        if [[ $line == "$delimiter" ]]; then
          closed=1
          break
        fi
        value+=$line$'\n'
      done
      value=${value%$'\n'}
      if [[ -z $delimiter ]] || ! ((closed)); then
        FILE_PROBLEM="Invalid value. Matching delimiter not found '$delimiter'"
        return 1
      fi
    elif [[ $line == *=* ]]; then
      name=${line%%=*}
      value=${line#*=}
    else
      FILE_PROBLEM="Invalid format '$line'"
      return 1
    fi
    if [[ -z $name ]]; then
      FILE_PROBLEM="Invalid format '$line'. Name must not be empty"
      return 1
    fi
    "$2" "$name" "$value"
  done <"$1"
}

add_output() { add output "$1" "$2"; }
add_env() { add env "$1" "$2"; }
export_pair() { export "$1=$2"; }

# collect_files: appends what the step has written to MESSAGE; fails, with FILE_PROBLEM, when it cannot be read.
collect_files() {
  local line
  FILE_PROBLEM=''
  read_pairs "$FILES/output" add_output && read_pairs "$FILES/env" add_env || return 1
  while IFS= read -r line || [[ -n $line ]]; do
    [[ -z $line ]] || add path "${line%$'\r'}"
  done <"$FILES/path"
  [[ ! -s $FILES/step_summary ]] || add summary "$(<"$FILES/step_summary")"
}
