# The liveness expression: (checkurl == 200) || (debugging && java alive).
# One exec probe command: sh -c THIS noah-liveness CHECKURL [SECONDS [NAME]]; POSIX sh: dash, busybox, bash.
#
#   CHECKURL  asked as kubelet's httpGet asks: GET, no proxy, certificates not verified; but only 200 is healthy
#   SECONDS   how long checkurl may take, all in all. Keep it below the probe's own timeout: what the kubelet ends by
#             force leaves a child behind, and a java that is PID 1 never reaps it
#   NAME      whose reports to believe: `jvm` in a container, the app's name on a host
#
# Exit code 0: alive, 1: not. One line says why; the kubelet puts it into the pod's event.
#
# A report is a file $NOAH_REPORTS/noah-NAME.SESSION with one line, written by whoever forwards the debugger:
#   1 FPID FSTART JPID JSTART UNTIL STATE SINCE
# Pids come with their start time (field 22 of /proc/PID/stat), FPID and FSTART are `- -` where nothing is forwarded from
# here; UNTIL and SINCE are seconds of /proc/uptime; STATE is running, suspended or unknown.
#
# Rules that must stay true:
#  - The reports come first: a suspended JVM answers no checkurl, and waiting for it would eat the probe's time.
#  - A suspended JVM costs no fork: this runs every few seconds in every pod.
#  - /dev/shm is shared by all containers of a pod and survives their restarts. A report counts only if the processes
#    that it names are in this container's /proc, and are no zombies: `kill -0` calls a zombie alive.
#  - A report that cannot be understood is no report. It is never an error and never blocks.
#  - No `$` twice in a row and no name in `$()` with nothing else: the kubelet expands those in a probe's command.
#  - A comment has a line of its own: those lines are left out of the pod's manifest.
set -u
url=$1 limit=${2:-1} name=${3:-jvm} dir=${NOAH_REPORTS:-/dev/shm}
# wget and sleep take whole seconds everywhere, fractions only in some builds.
whole=${limit%%.*}
case $whole in ''|0|*[!0-9]*) whole=1 ;; esac
# seconds; after a long stop the app has timers and connections to put right before it answers again
grace=10

# dash's echo would make a line end of a backslash and an n in a URL.
say() { printf 'noah: %s\n' "$1"; }
alive() { say "$1"; exit 0; }

# numbers N...: 1 unless all are whole, small enough for any shell's arithmetic and not octal.
numbers() {
  for n; do case $n in ''|*[!0-9]*|0?*|????????????????*) return 1 ;; esac; done
}

# exists PID START: is there, is no zombie, and is still the process that it was. The command in /proc/PID/stat stands in
# brackets and may contain brackets, spaces and newlines, so the fields are counted from its last bracket: field 3 first.
exists() {
  numbers "$1" "$2" || return 1
  text=
  while IFS= read -r line || [ -n "$line" ]; do text=$text$line; done 2>/dev/null < "/proc/$1/stat" || return 1
  set -- "$2" ${text##*\)}
  [ $# -gt 20 ] || return 1
  case $2 in Z|X|x) return 1 ;; esac
  [ "${21}" = "$1" ]
}

# look: ends this script when a report says so. Sets who to a word on the debugger, for when none does.
look() {
  who='nobody is debugging'
  read -r now _ < /proc/uptime || return
  now=${now%.*}
  for file in "$dir/noah-$name."*; do
    # A session has no dot in its name: this is a report on another NAME.
    case ${file#"$dir/noah-$name."} in *.*) continue ;; esac
    # Opening a FIFO would block.
    [ -f "$file" ] || continue
    # -n: no more than a report can have, of a file that never had a line's end. dash has no such option: a megabyte
    # takes it a quarter of a second, and only who may write in the pod could put it there.
    read -r -n 200 version fpid fstart jpid jstart until state since rest 2>/dev/null < "$file" ||
      read -r version fpid fstart jpid jstart until state since rest 2>/dev/null < "$file" || continue
    [ "$version" = 1 ] && [ -z "$rest" ] && numbers "$until" "$since" && [ "$now" -lt "$until" ] || continue
    [ "$fpid $fstart" = '- -' ] || exists "$fpid" "$fstart" || continue
    exists "$jpid" "$jstart" || continue
    case $state in
    suspended) alive "a debugger has suspended java ($jpid), which is alive" ;;
    unknown) alive "a debugger may have suspended java ($jpid), which is alive" ;;
    running)
      who='no debugger has suspended it'
      [ "$since" -gt "$now" ] || [ $((now - since)) -ge $grace ] ||
        alive "a debugger has let java ($jpid) go on only now" ;;
    esac
  done
}

# timed COMMAND...: its output and exit code; ended after $whole seconds. Not by `timeout`: busybox's leaves a process
# for PID 1 to reap at each run, and java does not. Here everything is waited for. Without a `sleep` it ends by itself.
# -9: dash and busybox lose a TERM that comes between the fork of sleep and its exec: one wait of twenty then lasted.
timed() {
  "$@" & tool=$!
  ( trap 'kill -9 $!; wait; exit' TERM; sleep "$whole" & wait $! && kill -9 $tool ) > /dev/null 2>&1 & timer=$!
  wait $tool; status=$?
  kill $timer; wait $timer
  return $status
}

# ask: sets code (the HTTP status, empty when there was no answer) and status (0: the answer came to its end) of checkurl.
ask() {
  unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
  if command -v curl > /dev/null 2>&1; then
    # -q: no .curlrc. -g: the URL is no pattern. exec: bash would fork once more.
    said=$(exec curl -q -gsk -o /dev/null -m "$limit" -w 'HTTP/ %{http_code}' --url "$url" 2>/dev/null)
    status=$?
  elif command -v wget > /dev/null 2>&1; then
    # Only options that GNU's and busybox's both have. Both follow redirects, so the first answer is what counts.
    case $url in https:*) set -- --no-check-certificate ;; *) set -- ;; esac
    said=$(timed wget -q -S -O /dev/null -t 1 "$@" -- "$url" 2>&1)
    status=$?
    # An old busybox: its exit code is all that there is, and it takes a redirect's end for the answer.
    case $status$said in 1*" option "*)
      said=$(timed wget -q -O /dev/null "$url" 2>&1 && echo 'HTTP/ 200')
      status=$? ;;
    esac
  else
    ask_with_bash
  fi
  code=
  case $said in *HTTP/*) code=${said#*HTTP/} code=${code#* } code=${code%%[!0-9]*} ;; esac
  [ "$code" != 000 ] || code=
}

# ask_with_bash: for slim images, which have bash and neither curl nor wget. Where that is not there or cannot do it, we
# do not know whether the app lives. Saying that it does would hide each deadlock for ever, so the probe fails from the
# first day, with a sentence: that is found when the probe is put in, not at the first outage.
ask_with_bash() {
  case $url in http://*) ;; *) no_tool https ;; esac
  command -v bash > /dev/null 2>&1 || no_tool http
  rest=${url#http://} host=${rest%%[/?#]*} path=${rest#"${rest%%[/?#]*}"}
  path=/${path#/} path=${path%%#*} port=80 peer=$host
  case $host in *:*[!0-9]*) ;; *:*) port=${host##*:} peer=${host%:*} ;; esac
  case $host in *]:*) port=${host##*:} peer=${host%:*} ;; esac
  peer=${peer#[} peer=${peer%]}
  said=$(timed bash -c 'exec 3<>"/dev/tcp/$1/$2" || exit
    printf "GET %s HTTP/1.0\r\nHost: %s\r\nConnection: close\r\n\r\n" "$3" "$4" >&3
    IFS= read -r line <&3 && echo "$line"' noah-liveness "$peer" "$port" "$path" "$host" 2>/dev/null)
  status=$?
}

no_tool() {
  look
  say "nothing in this container can ask checkurl $url: it takes curl or wget (or bash, for http), and $who"
  exit 1
}

look
ask
[ "$code" != 200 ] || [ $status != 0 ] || alive "checkurl $url answered 200"
# A breakpoint may have been hit while checkurl was hanging.
look
if [ -n "$code" ] && [ "$code" != 200 ]; then answer="answered $code"
elif [ -n "$code" ]; then answer="answered 200 but did not come to an end within $limit s"
else answer="gave no answer (within $limit s)"
fi
say "checkurl $url $answer and $who"
exit 1
