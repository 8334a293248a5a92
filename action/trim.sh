# shellcheck shell=bash
# Sourced by the scripts of the steps. YAML's `|` ends a text with a line end, which is no part of what was meant.
line_ends=$'\r\n'
for name in ${!INPUT_*}; do
  value=${!name}
  while [[ $value == *["$line_ends"] ]]; do
    value=${value%?}
  done
  printf -v "$name" %s "$value"
done
