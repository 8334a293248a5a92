#!/usr/bin/env bash
# The gate: whether this machine is what was rented. start.sh calls all of it as one function, `inspect`, in a subshell,
# with the folder that the job works in.
#
# It prints two lines: what it found, as the members of a JSON object; then `passed`, or what is wrong.
# render_gate() puts values in place of the settings, drops comments and tabs, and packs the rest. No secret is in it.
#
# SC2154: the settings.
# shellcheck disable=SC2154

# >>> settings
count=0 gpu='' vram=0 driver=0 cuda=0 free=0
# <<< settings

found_count=0 found_gpu='' found_vram=0 found_driver=0 found_cuda=0 found_free=0

wrong=''
note() { wrong+="${wrong:+, }$1"; }

# older A B: whether version A is below version B.
older() { [[ $1 != "$2" && $(printf '%s\n' "$1" "$2" | sort -V | head -n1) == "$1" ]]; }

# What is printed goes into JSON, and what is counted into arithmetic: nothing but plain characters may be in it.
plain() { printf '%s\n' "${1//[!A-Za-z0-9 .,$'\n'-]/}"; }

# A GPU that fell off the bus can hang nvidia-smi.
ask() { timeout 60 nvidia-smi "$@" </dev/null; }

look_at_gpus() {
	local rows name memory version
	rows=$(ask --query-gpu=memory.total,driver_version,name --format=csv,noheader,nounits) || note 'nvidia-smi fails'
	while IFS=, read -r memory version name; do
		name=${name# } version=${version# }
		if [[ ! $memory =~ ^[0-9]{1,9}$ ]]; then
			[[ ! $memory ]] || note 'nvidia-smi tells no memory'
			continue
		fi
		found_count=$((found_count + 1)) found_gpu=${name:0:64} found_vram=$memory found_driver=${version:0:32}
		# RunPod's names of models are nvidia-smi's, some without the maker.
		[[ ! $gpu || " ${name,,}" == *" ${gpu,,}" ]] || note "GPU ${name:0:64} instead of $gpu"
		((memory >= vram)) || note "$memory MiB of VRAM instead of $vram"
	done < <(plain "$rows")
	((found_count == count)) || note "$found_count GPUs instead of $count"
	! older "$found_driver" "$driver" || note "driver $found_driver instead of $driver"
	# It is in no column: the banner alone tells which CUDA the driver can do.
	if [[ $(ask) =~ CUDA\ Version:\ *([0-9]{1,3}\.[0-9]{1,3}) ]]; then found_cuda=${BASH_REMATCH[1]}; fi
	! older "$found_cuda" "$cuda" || note "CUDA $found_cuda instead of $cuda"
}

read -r _ _ _ found_free _ < <(df -Pk "$1" | tail -n1)
found_free=$((found_free / 1048576))
((found_free >= free)) || note "$found_free GB of free disk instead of $free"
((count == 0)) || look_at_gpus
printf '"gpu":"%s","count":%d,"vram":%d,"driver":"%s","cuda":"%s","free":%d\n%s\n' \
	"$found_gpu" "$found_count" "$found_vram" "$found_driver" "$found_cuda" "$found_free" "${wrong:-passed}"
