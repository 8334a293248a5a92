# shellcheck shell=bash
# shellcheck disable=SC2034 # what is set here is read by the scripts beside this one
# HTTP over bash's own /dev/tcp, and the line format that the simulator speaks.

HTTP_STATUS=0
HTTP_ERROR=''
HTTP_LINES=()
SERVER_HOST=''
SERVER_PORT=80

# use_server URL: only plain http to a host and port can be spoken here.
use_server() {
  local address=${1#http://}
  [[ $1 == http://* ]] || return 1
  address=${address%%/*}
  SERVER_HOST=${address%%:*}
  SERVER_PORT=80
  [[ $address != *:* ]] || SERVER_PORT=${address##*:}
}

# pack VALUE: the value as one word, in PACKED.
pack() {
  PACKED=${1//\\/\\\\}
  PACKED=${PACKED// /\\x20}
  PACKED=${PACKED//$'\n'/\\x0a}
  PACKED=${PACKED//$'\t'/\\x09}
  PACKED=${PACKED//$'\r'/\\x0d}
  [[ $PACKED != - ]] || PACKED='\x2d'
  PACKED=${PACKED:--}
}

# unpack WORD: the value it stands for, in VALUE.
unpack() {
  VALUE=''
  [[ $1 == - ]] || printf -v VALUE '%b' "$1"
}

# add WORD VALUE...: append a line to MESSAGE.
add() {
  local value
  MESSAGE+=$1
  shift
  for value in "$@"; do
    pack "$value"
    MESSAGE+=" $PACKED"
  done
  MESSAGE+=$'\n'
}

# send_request FD METHOD PATH AUTHORIZATION BODY
send_request() {
  local LC_ALL=C
  { printf '%s %s HTTP/1.1\r\nHost: %s:%s\r\nUser-Agent: standin-runner\r\nAuthorization: %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s' \
    "$2" "$3" "$SERVER_HOST" "$SERVER_PORT" "$4" "${#5}" "$5" >&"$1"; } 2>/dev/null
}

# read_head FD: the status of the answer, in HTTP_STATUS; the body is left unread.
read_head() {
  local line
  HTTP_STATUS=0
  IFS=' ' read -r -u "$1" _ HTTP_STATUS _ || return 1
  while IFS= read -r -u "$1" line; do
    [[ $line != $'\r' ]] || return 0
  done
  return 1
}

# http METHOD PATH AUTHORIZATION BODY: lines of the answer in HTTP_LINES; fails unless the status is 200.
http() {
  local fd line
  HTTP_LINES=()
  HTTP_STATUS=0
  HTTP_ERROR="no connection to $SERVER_HOST:$SERVER_PORT"
  { exec {fd}<>"/dev/tcp/$SERVER_HOST/$SERVER_PORT"; } 2>/dev/null || return 1
  if send_request "$fd" "$@" && read_head "$fd"; then
    while IFS= read -r -u "$fd" line; do
      HTTP_LINES+=("$line")
    done
  fi
  exec {fd}>&-
  field error
  HTTP_ERROR=$VALUE
  [[ $HTTP_STATUS == 200 ]]
}

# field WORD: the first value of that word in the last answer, in VALUE.
field() {
  local line
  VALUE=''
  for line in ${HTTP_LINES[@]+"${HTTP_LINES[@]}"}; do
    if [[ $line == "$1 "* ]]; then
      unpack "${line#* }"
      return 0
    fi
  done
  return 1
}

# setting FILE KEY: a string of a flat JSON file, in VALUE.
setting() {
  VALUE=$(sed -n "s/.*\"$2\": *\"\\([^\"]*\\)\".*/\\1/p" "$1" 2>/dev/null)
}

# say TEXT: a line with the time in front, as the listener prints it; kept in _diag as well.
say() {
  local line
  line="$(date -u '+%Y-%m-%d %H:%M:%SZ'): $1"
  printf '%s\n' "$line"
  [[ -z ${DIAGNOSTICS:-} ]] || printf '%s\n' "$line" >>"$DIAGNOSTICS/Runner_$STARTED-utc.log"
}
