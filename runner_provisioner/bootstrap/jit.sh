# In place of the functions of the same names where the runner's configuration comes over SSH. It is read from a pipe
# that only root can open: it is never in an argument, an environment or a file, and what it holds becomes the files
# that the runner would make of it (actions/runner, Runner.cs: LoadJitConfig). A runner that ended without a job, because
# GitHub removed it, gets another configuration.
#
# shellcheck shell=bash disable=SC2154,SC2086

configure() {
	local name value file
	rm -f "$rp_state/jit" "$rp_runner"/.{runner,credentials,credentials_rsaparams}
	mkfifo -m 600 "$rp_state/jit" || return
	log 'waiting for its configuration'
	report registering
	IFS= read -r rp_token <"$rp_state/jit"
	rm -f "$rp_state/jit"
	while IFS=\" read -r _ name _ value _; do
		if [[ $name =~ ^\.[a-z_]+$ ]]; then
			file=$rp_runner/$name
			# Serializers escape + and / in different ways.
			(umask 077 && printf %b "${value//'\/'//}" | base64 -d >"$file")
			[[ ! $rp_drop ]] || chown "$(<"$rp_state/uid")" "$file"
		fi
	done < <(printf %s "$rp_token" | base64 -d | tr , '\n')
	[[ -s $rp_runner/.runner && -s $rp_runner/.credentials ]]
}

listen() {
	while :; do
		rp_token=''
		(
			rp_export
			as_job "$rp_runner/run.sh"
		) > >(relay) 2>&1 &
		printf %s $! >"$rp_state/listener"
		: >"$rp_state/registered"
		log 'registered, listening'
		report listening
		wait $!
		rm -f "$rp_state/listener"
		# The pipe to the log may still hold the line that says so.
		pause 1
		if began; then break; fi
		configure || break
	done
}
