#!/usr/bin/env bash
# What runs inside a rented pod: one ephemeral runner, one job, and then the end of the pod.
#
# render() puts values in place of the settings, drops comments and tabs, shortens every name that begins with rp_ and
# those of the functions, and packs the rest, which has to be small (8 KiB for all): so indent by tabs, begin no line of a
# string with a tab, a # or a function's name, and call no function from a string. What stands between the marks "after
# the gate" travels apart: render_gate().
# Two processes share the work. `main` supervises: it only ever waits, so that a signal is heard at once, and it is the
# dead-man's switch. `flow` does what can hang: it downloads, registers, listens. However it ends, `main` ends the pod.
# Secrets (rp_key, rp_token, rp_private) are shell variables: never exported, never an argument of a program.
#
# SC2086, SC2046: lists of process ids, and the words that drop privileges, are split on purpose.
# SC2015: in `A && B || C`, C is what to do when either failed.  SC2016: what is in single quotes expands elsewhere.
# shellcheck disable=SC2086,SC2046,SC2015,SC2016

# >>> settings
rp_key='' rp_mark='' rp_token='' rp_config=(--name '' --url '' --labels '') rp_download='' rp_sha256=''
rp_run_as=user rp_idle=600 rp_lifetime=22500 rp_register=1200 rp_volume='' rp_owner='' rp_repository='' rp_run=''
rp_graphql='' rp_rest='' rp_private='' rp_speed='' rp_linger=0
rp_export() { :; }
# <<< settings

# Kept for whoever logs in: the container's log cannot be read from inside.
say() { { echo "$1" >>"$rp_state/log"; } 2>/dev/null; echo "$1"; }
log() { say "runner-provisioner: $*"; }

# report PHASE [REASON]: for whoever looks from outside (domain/gate.py). A whole file at any moment, no secret
# in it, and nothing after a failed gate.
report() {
	[[ -e $rp_state/failed ]] || printf '{"phase":"%s","reason":"%s","gate":{%s}}' "$1" "${2-}" "$(<"$rp_state/gate")" >"$rp_report.$BASHPID" &&
		mv -f "$rp_report.$BASHPID" "$rp_report"
} 2>/dev/null

# Before anything is registered: whoever rented the pod takes its machine for a bad one.
die() {
	log "$*: ending"
	report gate-failed "$*"
	: >"$rp_state/failed"
	exit 1
}

has() { type -P "$1" >/dev/null; }

# Only `wait` is cut short by a trapped signal; a program in the foreground is not.
pause() {
	sleep "$1" &
	wait "$!"
}

# --- HTTPS -----------------------------------------------------------------------------------------------------------

# Each checks certificates. busybox's wget cannot send DELETE.
look() {
	local client
	rp_clients=()
	for client in curl wget python3 openssl; do
		case $client in
			wget) [[ $(wget --help) == *--method* ]] ;;
			python3) python3 -c 'import ssl' ;;
			*) has $client ;;
		esac 2>/dev/null && rp_clients+=("$client")
	done
	((${#rp_clients[@]}))
}

# A client without certificate authorities can check nothing, so it could not even end the pod.
trusts() {
	local file
	for file in "${SSL_CERT_FILE-}" /etc/ssl/{certs/ca-certificates.crt,cert.pem,ca-bundle.pem} \
		/etc/pki/tls/{cert.pem,certs/ca-bundle.crt}; do
		if [[ -s $file ]]; then return; fi
	done
	return 1
}

clients() {
	if ! look || ! trusts; then add curl ca-certificates; fi
	look
}

# request CLIENT URL OUTPUT [METHOD [BODY]]: success is a status of 2xx. A call with a method carries the pod-scoped key,
# follows no redirect and ends within half a minute; one without is the download.
request() {
	local client=$1 url=$2 out=$3 method=${4-} body=${5-} json='Content-Type: application/json' o
	if [[ $client == curl ]]; then
		o=(-qsSfo "$out")
		if [[ $url == https:* ]]; then o+=(--proto '=https'); fi
		if [[ $method ]]; then o+=(-K - -m 30 -X "$method"); else o+=(-LC - -y 30 -Y 1000); fi
		if [[ $body ]]; then o+=(-H "$json" -d "$body"); fi
		body=${rp_key//\\/\\\\}
		printf 'header = "Authorization: Bearer %s"\n' "${body//\"/\\\"}" | curl "${o[@]}" "$url"
	elif [[ $client == wget ]]; then
		o=(-nv -t1 -T30 -O "$out")
		if [[ $method ]]; then o+=(--config "$rp_state/rc" --max-redirect 0 --method "$method"); else o+=(-c); fi
		if [[ $body ]]; then o+=(--header "$json" --body-data "$body"); fi
		# wget reads its options from no pipe; this folder is its owner's alone.
		[[ ! $method ]] || printf 'header = Authorization: Bearer %s\n' "$rp_key" >"$rp_state/rc"
		wget "${o[@]}" "$url"
		body=$?
		rm -f "$rp_state/rc"
		return $body
	else
		raw
	fi
}

# HTTP spoken by this script, over TLS by openssl or python3; plain http is for the loopback of a rehearsal.
raw() {
	local host port status limit=900
	if [[ $method ]]; then limit=30; fi
	for _ in 1 2 3 4; do
		host=${url#*://} port=443
		host=${host%%/*}
		if [[ $host == *:* ]]; then port=${host#*:} host=${host%:*}; fi
		read -r status o < <(
			if [[ $url == http:* ]]; then
				exec 3<>"/dev/tcp/$host/$port" && ask >&3 && answer <&3
			elif [[ $client == openssl ]]; then
				ask | timeout $limit openssl s_client -quiet -verify_return_error -verify_hostname "$host" \
					-connect "$host:$port" | answer
			else
				ask | timeout $limit python3 -c 'import socket, ssl, sys
a = sys.argv[1:]
s = ssl.create_default_context().wrap_socket(socket.create_connection(a), server_hostname=a[0])
s.sendall(sys.stdin.buffer.read())
sys.stdout.buffer.writelines(s.makefile("rb"))' "$host" "$port" | answer
			fi 2>/dev/null
		)
		if [[ $method || $status != 3?? || $o != https:* ]]; then break; fi
		url=$o
	done
	[[ $status == 2?? ]] || ! log "$client: status $status"
}

ask() {
	printf '%s /%s HTTP/1.0\r\nHost: %s\r\nUser-Agent: runner-provisioner\r\n' "${method:-GET}" "${url#*://*/}" "$host"
	if [[ $method ]]; then printf 'Authorization: Bearer %s\r\n' "$rp_key"; fi
	if [[ $body ]]; then printf '%s\r\nContent-Length: %d\r\n' "$json" "${#body}"; fi
	printf '\r\n%s' "$body"
}

answer() {
	local line where code=000
	read -r _ code _
	while IFS=$' \r' read -r line && [[ $line ]]; do
		if [[ ${line,,} == location:* ]]; then where=${line#* }; fi
	done
	cat >"$out"
	printf '%s %s\n' "$code" "${where-}"
}

# --- what the runner needs -------------------------------------------------------------------------------------------

has_icu() { [[ $(/sbin/ldconfig -p) == *libicuuc* ]]; }

add() {
	if ((EUID)) || ! has apt-get; then return 1; fi
	log "installing $*"
	{
		timeout 90 apt-get -qq update
		DEBIAN_FRONTEND=noninteractive timeout 150 \
			apt-get -qqy --no-install-recommends -o DPkg::Lock::Timeout=60 install "$@"
	} </dev/null >/dev/null 2>&1
}

# libicu's package is named after its version; apt-get takes a pattern that ends in a dollar sign.
prepare() {
	local missing=''
	has_icu || missing='^libicu[0-9]*$'
	has git || missing+=' git'
	[[ ! $missing ]] || add $missing || log "going on without $missing"
}

# Every second attempt resumes what the one before left, where the client can. sha256sum comes with base64, without which
# this script would not run.
fetch() {
	local n sum begun=$SECONDS
	log "downloading $rp_download"
	for n in 0 1 2 3; do
		pause $n
		((n % 2)) || rm -f "$rp_tar"
		request "${rp_clients[n % ${#rp_clients[@]}]}" "$rp_download" "$rp_tar"
		sum=$(sha256sum "$rp_tar")
		if [[ ${sum%% *} == "$rp_sha256" ]]; then
			# In whole seconds, rounded in the machine's favour.
			[[ ! $rp_speed ]] || ((rp_speed * (SECONDS - begun - 1) <= $(wc -c <"$rp_tar"))) || die 'gate: slow download'
			return
		fi
		log "wrong sha256: ${sum%% *}"
	done
	return 1
}

# What is not as it was rented ends the pod before a job can see it. The gate (gate.sh, as `inspect`) tells what it found
# and, in its last line, what is wrong. With it comes what registers and runs a job, in the environment: both would not
# fit here, and hold no secret. gzip vouches for it being whole.
gate() {
	local found
	found=$(printf %s "$rp_code" | base64 -d | gzip -dc) && eval "$found" && found=$(inspect "$rp_base") || found=''
	printf %s "${found%$'\n'*}" >"$rp_state/gate"
	[[ $found == *passed ]] || die "gate: ${found##*$'\n'}"
}

# Without --no-same-owner root keeps the owners that the archive names.
unpack() {
	mkdir -p "$rp_runner" "$rp_base"/{work,home,job} && tar -xzf "$rp_tar" --no-same-owner -C "$rp_runner" &&
		rm -f "$rp_tar"
}

# Whether a command line still shows the start command (by its mark), the token or the token's base64.
exposed() {
	local file line piece
	piece=$(printf %s "$rp_token" | base64 -w0)
	for file in /proc/[0-9]*/cmdline; do
		line=''
		IFS= read -rd $'\1' line 2>/dev/null <"$file"
		case $line in *"$rp_mark"* | *"$rp_token"* | *"${piece:0:${#piece}-4}"*) return 0 ;; esac
	done
	return 1
}

# What is only called after the gate travels with it.
# >>> after the gate
# A line in passwd needs no program that an image may lack. Both ways to become the user exec, so that nothing stands
# between a signal and the runner; the first also defeats sudo. The user may add files to the runner's folder (.runner,
# _diag) and replace none of its own.
make_user() {
	local uid=64021
	while grep -qs "^[^:]*:[^:]*:$uid:" /etc/passwd /etc/group; do uid=$((uid + 1)); done
	echo "rp-runner:x:$uid:" >>/etc/group && echo "rp-runner:x:$uid:$uid::$rp_base/home:$BASH" >>/etc/passwd || return
	rp_drop="setpriv --reuid $uid --regid $uid --clear-groups --no-new-privs"
	$rp_drop true 2>/dev/null || rp_drop="chroot --userspec=+$uid:+$uid --groups= /"
	$rp_drop true && printf %s $uid >"$rp_state/uid" && chown $uid:$uid "$rp_base"/{work,home,job} &&
		chown 0:$uid "$rp_runner" && chmod 1775 "$rp_runner" || return
	# Without a volume there the folder is the image's.
	if [[ $rp_volume == /?* ]] && grep -qsF " $rp_volume " /proc/self/mounts; then chown $uid:$uid "$rp_volume"; fi
}

# The hook before a job's first step.
guard() {
	: >"$rp_base/job/began"
	local repository=${GITHUB_REPOSITORY,,} run=$GITHUB_RUN_ID
	if [[ ${repository%%/*} != "$rp_owner" || $repository != "${rp_repository:-$repository}" || $run != "${rp_run:-$run}" ]]; then
		: >"$rp_base/job/refused"
		echo "::error::This runner is for ${rp_repository:-$rp_owner} $rp_run, not for $repository $run"
		exit 1
	fi
}

completed() { : >"$rp_base/job/completed"; }

write_hooks() {
	local hook
	for hook in guard completed; do
		{
			declare -p rp_base rp_owner rp_repository rp_run
			declare -f $hook
			printf %s $hook
		} >"$rp_base/$hook.sh" || return
	done
}

# --- the runner ------------------------------------------------------------------------------------------------------

# Becomes the program: as the job's user, and without what is not the job's business.
as_job() {
	unset PUBLIC_KEY JUPYTER_PASSWORD
	export RUNNER_PROVISIONER=$rp_id RUNNER_MANUALLY_TRAP_SIG=1
	export ACTIONS_RUNNER_HOOK_JOB_STARTED=$rp_base/guard.sh ACTIONS_RUNNER_HOOK_JOB_COMPLETED=$rp_base/completed.sh
	if [[ $rp_drop ]]; then export HOME=$rp_base/home USER=rp-runner LOGNAME=rp-runner; fi
	if [[ $rp_run_as == root ]]; then export RUNNER_ALLOW_RUNASROOT=1; fi
	if ! has_icu; then export DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1; fi
	cd "$rp_runner" && exec $rp_drop "$BASH" "$@" </dev/null
}

relay() {
	local line
	while IFS= read -r line || [[ $line ]]; do
		if [[ $line == *'Running job: '* ]]; then
			: >"$rp_state/job"
			report working
		fi
		say "runner: ${line//"$rp_token"/***}"
	done
}

configure() {
	log "registering ${rp_config[1]}"
	report registering
	(
		export ACTIONS_RUNNER_INPUT_TOKEN=$rp_token
		as_job "$rp_runner/config.sh" --unattended --ephemeral --disableupdate --no-default-labels \
			--work "$rp_base/work" "${rp_config[@]}"
	) 2>&1 | relay
	return "${PIPESTATUS[0]}"
}

listen() {
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
}

# <<< after the gate

flow() {
	local prepared fetching
	# A subshell begins without.
	set -m
	report preparing
	clients || die 'no way to speak HTTPS'
	if ((EUID)) && [[ $rp_run_as != same ]]; then die 'does not start as root'; fi
	if exposed; then die 'a command line shows the start command'; fi
	prepare &
	prepared=$!
	{ fetch && unpack; } &
	fetching=$!
	report gate
	gate
	report downloading
	wait $fetching || die 'no runner'
	wait $prepared
	if [[ $EUID == 0 && $rp_run_as != root ]]; then make_user || die 'no unprivileged user'; fi
	write_hooks && : >"$rp_state/began" || die 'no marker'
	if exposed; then die 'a command line shows the token'; fi
	configure || die 'not registered'
	rp_token=''
	listen
}

# --- the end ---------------------------------------------------------------------------------------------------------

# Fills rp_mine (the job's processes) and rp_programs (the runner's own, without the node that it brings for actions):
# what runs as the job's user, what carries our variable in its environment, and all that descends from these or the flow.
# rp_told is who hears TERM: a step's shell that would only die of it stays, since GitHub's runner ends what a step leaves
# behind once its shell has ended, in the middle of the child's last work.
scan() {
	local pid parent line uid=none found=1
	local -A parents=() mine=(["$rp_flow"]=1)
	if [[ -s $rp_state/uid ]]; then uid=$(<"$rp_state/uid"); fi
	while IFS=$'/:\t' read -r _ _ pid _ _ parent; do
		if [[ $parent ]]; then parents[$pid]=$parent; else mine[$pid]=1; fi
	done < <(
		grep -sH ^PPid: /proc/[0-9]*/status
		grep -lsaE "RUNNER_PROVISIONER=$rp_id|^Uid:.$uid\s" /proc/[0-9]*/{environ,status}
	)
	while ((found)); do
		found=0
		for pid in "${!parents[@]}"; do
			if [[ ! ${mine[$pid]-} && ${mine[${parents[$pid]}]-} ]]; then mine[$pid]=1 found=1; fi
		done
	done
	rp_mine='' rp_programs='' rp_told=''
	for pid in "${!mine[@]}"; do
		# The null characters between the arguments are dropped.
		line=''
		IFS= read -rd $'\1' line 2>/dev/null <"/proc/$pid/cmdline"
		case $line in
			'' | "$BASH-p$0") ;;
			"$rp_runner"/externals/*) rp_mine+=" $pid" ;;
			"$rp_runner"/* | *bash"$rp_runner"/*) rp_programs+=" $pid" ;;
			*)
				rp_mine+=" $pid"
				[[ " ${parents[*]} " == *" $pid "* ]] && ! grep -q 'Cgt.*[4-7c-f]...$' /proc/$pid/status || rp_told+=" $pid"
				;;
		esac 2>/dev/null
	done
}

# tell SIGNAL PID...: some may have ended meanwhile.
tell() { if (($# > 1)); then kill -s "$@" 2>/dev/null; fi; }

# The listener's process id, if it lives.
listener() {
	local pid
	{ read -r pid <"$rp_state/listener"; } 2>/dev/null
	[[ ${pid-} && -d /proc/$pid ]] && printf %s $pid
}

# halt SECONDS: the job's processes hear of it first, then the listener; they have so long to save their work and to
# report. Only one round of TERM: a second would hit what a process started to save its work.
halt() {
	local n
	scan
	tell KILL $rp_flow
	tell TERM $rp_told
	tell TERM $(listener)
	for ((n = $1 * 5; n; n--)); do
		pause 0.2
		scan
		[[ $rp_mine$rp_programs ]] || break
	done
	tell KILL $rp_mine $rp_programs
}

stopped() {
	trap '' TERM INT
	log 'told to stop'
	report ending 'told to stop'
	tell KILL $rp_end
	if [[ $rp_flow ]]; then halt 30; fi
	tell TERM $rp_image
	exit 143
}

began() { [[ -e $rp_state/job || -e $rp_base/job/began ]]; }

# The listener is frozen while we look, so that no job can begin between the look and the signal.
stop_idle() {
	local n
	log "no job within $rp_idle s: stopping the listener"
	scan
	tell STOP $rp_programs
	pause 0.5
	began || tell TERM $(listener)
	tell CONT $rp_programs
	for ((n = 150; n; n--)); do
		if began; then
			log 'a job began meanwhile: sparing the pod'
			return
		fi
		listener >/dev/null || break
		pause 0.2
	done
	rp_reason='no job came'
}

clock() {
	read -r rp_now _ </proc/uptime
	rp_now=$((${rp_now%.*} - rp_start))
}

# Sets rp_reason when the pod has to end. A job that was refused could still run what it marks always(), and a listener
# may hang after its job.
check() {
	clock
	if ! kill -0 $rp_flow 2>/dev/null; then
		rp_reason='the runner has ended'
	elif ((rp_now >= rp_lifetime)); then
		rp_reason="lifetime of $rp_lifetime s is over"
	elif [[ ! -e $rp_state/registered ]]; then
		((rp_now < rp_register)) || rp_reason="not registered within $rp_register s"
	elif [[ -e $rp_base/job/refused ]]; then
		over 5
	elif [[ -e $rp_base/job/completed ]]; then
		over 120
	elif ! began; then
		rp_since=${rp_since:-$rp_now}
		((rp_now < rp_since + rp_idle)) || stop_idle
	fi
}

over() {
	rp_over=${rp_over:-$rp_now}
	((rp_now < rp_over + $1)) || rp_reason='the job is over'
}

# Asks until the pod ends, however long that takes. RunPod alone gives a pod a key: elsewhere others end it.
finish() {
	local n=0 delay=2 client
	if [[ ! $rp_key || ! $rp_id || $rp_id == *[!A-Za-z0-9_-]* ]] || ! clients; then
		log 'idle: no pod-scoped key or no way to speak HTTPS: cannot end this pod'
		pause 99999999
	fi
	while :; do
		client=${rp_clients[n / 2 % ${#rp_clients[@]}]}
		n=$((n + 1))
		if ((n % 2)); then
			log 'ending by REST v2'
			request "$client" "$rp_rest/pods/$rp_id" /dev/null DELETE || continue
		else
			log 'ending by GraphQL'
			request "$client" "$rp_graphql" /dev/null POST '{"query":"mutation{podTerminate(input:{podId:\"'"$rp_id"'\"})}"}'
		fi
		pause $delay
		delay=$((delay < 15 ? delay * 2 : 30))
	done
}

# On the container's disk: a volume outlives the pod, so that the next pod with it would end itself; a tmpfs forgets.
settle() {
	local place
	for place in /opt /var/lib "${HOME:-/tmp}" /var/tmp /tmp; do
		rp_base=$place/runner-provisioner-$rp_id
		rp_runner=$rp_base/runner rp_state=$rp_base/state rp_tar=$rp_base/runner.tgz
		# A fixed place that only root can write to, where we are root.
		rp_report=/run/runner-provisioner.json
		((EUID)) && rp_report=$rp_base/report.json
		if mkdir -p "$rp_state" && chmod 700 "$rp_state"; then return; fi
	done 2>/dev/null
	rp_reason='no folder to work in'
}

host_key() {
	local file=/etc/ssh/ssh_host_ed25519_key
	if ((EUID)) || [[ ! $rp_private ]]; then return; fi
	mkdir -p /etc/ssh
	rm -f $file*
	(umask 077 && echo "$rp_private" >$file) && echo "$rp_public" >$file.pub || log 'no SSH host key'
}

main() {
	# Emptied before it is removed, because bash keeps it open.
	: >$0
	rm -f $0
	umask 022
	# With job control what is started in the background does not ignore SIGINT, which is how run.sh stops the listener.
	set -um
	# Where no variable tells the pod's id, the nonce keeps its files and processes apart from another pod's.
	rp_id=${RUNPOD_POD_ID:-${RP_NONCE-}} rp_public=${RP_HOST_KEY-} rp_code=${RP_GATE-}
	rp_flow='' rp_end='' rp_image='' rp_reason='' rp_since='' rp_over='' rp_drop='' rp_start=0
	unset "${!RP_@}" RUNPOD_API_KEY
	trap stopped TERM INT
	clock
	rp_start=$rp_now
	settle
	if [[ -e $rp_state/began ]]; then
		rp_reason='restarted'
	elif [[ ! $rp_reason ]]; then
		host_key
		if [[ -f /start.sh ]]; then
			log 'starting /start.sh'
			"$BASH" /start.sh </dev/null &
			rp_image=$!
		fi
		flow &
		rp_flow=$!
		disown
	fi
	rp_token='' rp_private=''
	until [[ $rp_reason ]]; do
		pause 1
		check
	done
	log "ending: $rp_reason"
	report ending "$rp_reason"
	# Until a start has seen that the container ran: else it takes the end for a stop from elsewhere (domain/decisions.py).
	[[ ! -e $rp_state/failed ]] || pause $rp_linger
	if [[ $rp_flow ]]; then halt 10; fi
	while :; do
		finish &
		rp_end=$!
		wait $!
		pause 1
	done
}

main
