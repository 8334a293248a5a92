#!/usr/bin/env bash
# The history that travels from job to job by a cache. STAGE find: where it is, and under which key it will be saved;
# restored: put aside what cannot be used, so that it is not restored for ever; after: whether there is news to save.
# A history that is lost or damaged makes offers rank worse, and nothing here may fail the step for it.
set -euo pipefail
export LC_ALL=C

folder=$RUNNER_TEMP/runner-provisioner-history
file=$folder/history.sqlite3
before=$folder.before

sums() {
  local part
  for part in "$file" "$file-wal"; do
    if [ -s "$part" ]; then
      cksum <"$part"
    fi
  done
}

output() { # NAME VALUE
  printf '%s=%s\n' "$1" "$2" >>"$GITHUB_OUTPUT"
}

case $STAGE in
  find)
    place=$(printf '%s\n' "$INPUT_REPOSITORY" "$INPUT_ORGANIZATION" "$INPUT_OWNER" | cksum | cut -d ' ' -f 1)
    prefix=runner-provisioner-history-$place-
    # A key is written once: each use of the action has its own. The newest of a prefix is what is restored.
    key=$prefix$GITHUB_RUN_ID-$GITHUB_RUN_ATTEMPT-$(date +%s)-$$-$RANDOM
    # What an earlier step of this job has written is newer than any cache.
    if [ -e "$file" ]; then
      output found true
    fi
    output folder "$folder"
    output prefix "$prefix"
    output key "$key"
    ;;
  restored)
    if [ -e "$file" ] && ! told=$(RUNNER_PROVISIONER_HISTORY=$file "$PROGRAM" costs --since 1s 2>&1 >/dev/null); then
      case $told in
        *'is damaged'*)
          rm -f "$file-wal" "$file-shm"
          mv "$file" "$folder.damaged"
          echo "::warning title=runner-provisioner::the history from the cache is damaged: a new one is begun"
          ;;
      esac
    fi
    ;;
  after)
    if [ "$(sums)" != "$(cat "$before" 2>/dev/null)" ]; then
      output changed true
    fi
    exit
    ;;
esac
sums >"$before"
output file "$file"
