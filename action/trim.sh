# Sourced by the scripts of the steps. YAML's `|` ends a text with a line end, which is no part of what was meant.
for name in ${!INPUT_*}; do
  value=${!name}
  while [ "${value%[$'\r\n']}" != "$value" ]; do
    value=${value%[$'\r\n']}
  done
  printf -v "$name" %s "$value"
done
