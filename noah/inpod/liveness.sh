# The liveness expression: (checkurl == 200) || (debugging && java alive).
# One exec probe command: sh -c THIS noah-liveness CHECKURL [SECONDS [NAME [HEALTHY [HEADER...]]]]; POSIX sh: dash,
# busybox, bash.
#
#   CHECKURL  asked as kubelet's httpGet asks: GET, no proxy, certificates not verified. $NOAH_POD_IP for a host is that
#             variable's value, or 127.0.0.1. A `-` is not asked: the exit code tells of the debugger alone
#   SECONDS   how long checkurl may take, all in all. Keep it below the probe's own timeout: what the kubelet ends by
#             force leaves a child behind, and a java that is PID 1 never reaps it
#   NAME      whose reports to believe: `jvm` in a container, `jvm:PORT` beside the container whose agent has that port,
#             the app's name on a host
#   HEALTHY   200 and nothing else, or 200-399 for what a kubelet takes: these, and redirects are followed on the same
#             host; one to another host is healthy and is not followed
#   HEADER    `Name: value`, sent along
#
# Exit code 0: alive, 1: not. One line says why; the kubelet puts it into the pod's event.
#
# What is true in this pod decides, and the gateway's word only says which of two attached states it is:
#
#   debugger attached here | the gateway's word          | verdict
#   no                     | any but a fresh suspended   | checkurl
#   yes                    | running, fresh              | checkurl
#   yes                    | suspended, fresh or stale   | alive, to the session's end
#   yes                    | stale, unknown, unreadable  | alive, to the session's end
#   cannot be seen         | as with yes                 |
#
# A session has two files here, written by the forwarder:
#   $NOAH_REPORTS/noah-NAME.SESSION.jvm    2 JPID JSTART UNTIL PORT WHERE OWNS
#   $NOAH_REPORTS/noah-NAME.SESSION.word   STATE SINCE SAID, overwritten in place by each word
# JPID and JSTART (field 22 of /proc/PID/stat) name the session's JVM, PORT is its agent's as /proc/net/tcp writes it
# (:C355), UNTIL is when the session ends, SAID when the gateway said STATE (running, suspended, unknown, or free: nobody
# is attached through the gateway), SINCE since when it may answer checkurl again; all in seconds of /proc/uptime. WHERE is
# pod, host or beside (JPID and JSTART are 0 there: the agent's socket stands for the JVM). OWNS is other where another JVM than this one owns checkurl's socket: that one is not spared by this one.
#
# Rules that must stay true:
#  - The reports come first: a suspended JVM answers no checkurl, and waiting for it would eat the probe's time.
#  - A JVM that a fresh word calls suspended costs no fork: this runs every few seconds in every pod.
#  - /dev/shm and, where a pod shares it, /proc are one for all containers. A report counts only if its JVM is in this
#    container and is not a zombie: `kill -0` calls a zombie alive.
#  - A report that cannot be understood is not a report. It is never an error and never blocks.
#  - Nobody connects to the agent's port to see whether it is there: that would take its only slot.
#  - No `$` twice in a row and no name in `$()` with nothing else: the kubelet expands those in a probe's command.
#  - A JVM whose agent has suspend=y runs nothing before its first debugger comes, and is spared until then.
#  - A comment has a line of its own: those lines are left out of the pod's manifest.
set -u
url=$1 limit=${2:-1} name=${3:-jvm} healthy=${4:-200} dir=${NOAH_REPORTS:-/dev/shm}
if [ $# -gt 4 ]; then shift 4; else set --; fi
case $url in *'//$NOAH_POD_IP:'*)
  ip=${NOAH_POD_IP:-127.0.0.1}
  case $ip in *:*) ip=[$ip] ;; esac
  url=${url%%'$NOAH_POD_IP'*}$ip${url#*'$NOAH_POD_IP'} ;;
esac
# wget and sleep take whole seconds everywhere, fractions only in some builds.
whole=${limit%%.*}
case $whole in ''|0|*[!0-9]*) whole=1 ;; esac
# seconds; after a long stop the app has timers and connections to put right before it answers again
grace=10
# seconds; while a debugger is attached the gateway says its word every second. A word in whole seconds of this age is
# less than 4 s old, and inject writes failureThreshold and periodSeconds so that (threshold - 1) * period is at least 4:
# a VM that stops just after the last word that arrived is called stale before the kubelet has counted to the threshold.
fresh=3

# seconds; sessions are shorter. A report that would last longer was not written by a forwarder
longest=604800

nl='
'
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

# neighbour PID: runs in another container: it has another root, or, where that may not be looked at, other control groups;
# anybody may read those of every process.
neighbour() {
  [ ! "/proc/$1/root" -ef / ] || return 1
  while read -r mine <&3 && read -r theirs <&4; do
    case $theirs in */..*) return 0 ;; "$mine"|"${mine%/}"/*) ;; *) return 0 ;; esac
  done 2>/dev/null 3< /proc/self/cgroup 4< "/proc/$1/cgroup"
  return 1
}

# rows_of PORT: sets rows to what the tables of sockets have on it, and maybe on others; 1 where they cannot be read.
rows_of() {
  [ -r /proc/net/tcp ] || return 1
  # Not by the shell alone, which reads a table byte by byte (dash), or from its start for each line (bash).
  if command -v grep > /dev/null 2>&1; then rows=$(grep -h "$1 " /proc/net/tcp /proc/net/tcp6 2>/dev/null)
  elif command -v cat > /dev/null 2>&1; then rows=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null)
  else return 1
  fi
  :
}

# has PORT STATE...: the pod has a socket at that port in such a state; sets inode to its.
has() {
  rows_of "$1" || return 1
  port_seen=$1
  shift
  while read -r _ local _ st _ _ _ _ _ inode _; do
    case $local in *"$port_seen") ;; *) continue ;; esac
    for wanted; do [ "$st" != "$wanted" ] || return 0; done
  done <<ROWS
$rows
ROWS
  return 1
}

# waits: the JVM waits for its first debugger: nothing listens at checkurl's port, its agent does, and where its threads
# can be seen the one is not there that HotSpot starts after its agents.
waits() {
  numbers "${NOAH_SUSPENDS:-}" || return 1
  checkport=${url#*://} checkport=${checkport%%[/?#]*} checkport=${checkport##*:}
  if numbers "$checkport"; then
    ! has "$(printf ':%04X' "$checkport")" 0A || return 1
  fi
  has "$(printf ':%04X' "$NOAH_SUSPENDS")" 0A || return 1
  for p in /proc/[0-9]*; do
    IFS= read -r comm 2>/dev/null < "$p/comm" || continue
    case $comm in java*) ;; *) continue ;; esac
    case $(ls -l "$p/fd" 2>/dev/null) in *"socket:[$inode]"*) ;; *) continue ;; esac
    for thread in "$p"/task/*/comm; do
      IFS= read -r comm 2>/dev/null < "$thread" || continue
      case $comm in 'VM Periodic'*) return 1 ;; esac
    done
  done
}

# attached PORT PID: a connection is established at the agent's port, by a socket of that JVM where its sockets can be
# seen. Where nothing can be seen it is taken for granted.
attached() {
  rows_of "$1" || return 0
  fds=unread
  while read -r _ local _ st _ _ _ _ _ inode _; do
    case $local$st in *"$1"01) ;; *) continue ;; esac
    [ "$fds" != unread ] || fds=$(ls -l "/proc/$2/fd" 2>/dev/null)
    # Root without SYS_PTRACE may list another user's descriptors and not read where they lead.
    case $fds in *"socket:[$inode]"*) return 0 ;; *'-> '*) ;; *) return 0 ;; esac
  done <<ROWS
$rows
ROWS
  return 1
}

# is_readable FILE: is no link and no FIFO, which would block; of this very user, as the forwarder in a pod is. On a host it
# may be another's: sets writer then to that user, who has to be root or the app's (may_write).
is_readable() {
  writer=''
  [ ! -L "$1" ] && [ -f "$1" ] || return 1
  [ ! -O "$1" ] || return 0
  case $name in jvm|jvm:*) return 1 ;; esac
  read -r _ _ writer _ size _ <<LISTED
$(ls -ln "$1" 2>/dev/null)
LISTED
  # Of somebody else's without a line's end no shell reads on then.
  case $size in [0-9]|[0-9][0-9]|1[0-9][0-9]) ;; *) return 1 ;; esac
}

# may_write: whom is_readable found may write reports on the JVM $jpid.
may_write() {
  case $writer in ''|0) return 0 ;; esac
  read -r _ _ app _ <<LISTED
$(ls -ldn "/proc/$jpid" 2>/dev/null)
LISTED
  [ "$writer" = "$app" ]
}

# read_report FILE: sets what a report holds; 1 unless it is one, is in force, and its JVM lives in this container.
read_report() {
  # -n: no more than a report can have, of a file that never had a line's end. dash has no such option: a megabyte
  # takes it a quarter of a second, and only this very user could put it there.
  read -r -n 200 version jpid jstart until port where owns rest 2>/dev/null < "$1" ||
    read -r version jpid jstart until port where owns rest 2>/dev/null < "$1" || return 1
  [ "$version" = 2 ] && [ -n "$owns" ] && [ -z "$rest" ] && numbers "$until" && [ "$now" -lt "$until" ] &&
    [ $((until - now)) -le $longest ] || return 1
  case $port in :[0-9A-F][0-9A-F][0-9A-F][0-9A-F]) ;; *) return 1 ;; esac
  if [ "$where" = beside ]; then
    java="java (at port ${name#jvm:})"
    has "$port" 0A 01
    return
  fi
  java="java ($jpid)"
  exists "$jpid" "$jstart" && may_write || return 1
  [ "$where" != pod ] || ! neighbour "$jpid"
}

# read_word FILE: sets state, since, and is_fresh where that is so. A word that cannot be read is unknown.
read_word() {
  state='' since='' said='' rest='' is_fresh=''
  is_readable "$1" && may_write && { read -r -n 80 state since said rest 2>/dev/null < "$1" ||
    read -r state since said rest 2>/dev/null < "$1"; }
  if [ -n "$rest" ] || ! numbers "$since" "$said"; then state=unknown since=0 said=0; fi
  if [ $said -le $now ] && [ $((now - said)) -le $fresh ]; then is_fresh=yes
  elif [ "$state" != suspended ]; then state=unknown
  fi
}

# look: ends this script when a report says so. Sets who to a word on the debugger, for when none does.
look() {
  who='nobody is debugging'
  read -r now _ < /proc/uptime || return
  now=${now%.*}
  for file in "$dir/noah-$name."*.jvm; do
    session=${file#"$dir/noah-$name."} session=${session%.jvm}
    # A session has no dot in its name: this is a report on another NAME.
    case $session in *.*) continue ;; esac
    is_readable "$file" && read_report "$file" || continue
    read_word "$dir/noah-$name.$session.word"
    if [ "$owns" = other ]; then
      who="checkurl is not asked of the JVM that is being debugged ($jpid)"
      continue
    fi
    # Believed without a look at the sockets for the seconds that it is fresh: a shell reads a table byte by byte.
    [ "$state$is_fresh" != suspendedyes ] || alive "a debugger has suspended $java, which is alive"
    who='no debugger has suspended it'
    [ $since = 0 ] || [ $since -gt $now ] || [ $((now - since)) -ge $grace ] ||
      alive "a debugger has let $java go on only now"
    [ "$state" != running ] || continue
    if attached "$port" "$jpid"; then
      case $state in
      suspended) alive "a debugger has suspended $java, which is alive" ;;
      *) alive "a debugger is attached to $java, which is alive, and may have suspended it" ;;
      esac
    fi
    who='no debugger is attached'
  done
  ! waits || alive 'java waits for its first debugger, and runs nothing until then (suspend=y)'
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

# ask HEADER...: sets code (the HTTP status that counts, empty when there was no answer) and status (0: the answer came
# to its end) of checkurl; and why, what the tool has to say of a failure.
ask() {
  unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
  target=$url hops=0
  while fetch "$@"; judge; [ -n "$to" ]; do
    # As many as a kubelet follows.
    hops=$((hops + 1)) target=$to
    [ $hops -lt 10 ] || { code='' why='it redirects ten times'; break; }
  done
}

# fetch HEADER...: asks $target. Sets said, with a line `HTTP/... CODE` and perhaps `Location: URL` for each answer; and
# followed, where the tool has followed redirects by itself.
fetch() {
  followed='' why=''
  if command -v curl > /dev/null 2>&1; then
    for header; do set -- "$@" -H "$header"; shift; done
    # -q: no .curlrc. -g: the URL is no pattern. exec: bash would fork once more.
    said=$(exec curl -q -gsSk -o /dev/null -m "$limit" "$@" \
      -w 'HTTP/ %{http_code}\nLocation: %{redirect_url}\n' --url "$target" 2>&1)
    status=$?
    case $said in curl:*) why=${said%%HTTP/*} why=${why%%"$nl"*} ;; esac
  elif command -v wget > /dev/null 2>&1; then
    followed=yes
    for header; do set -- "$@" --header "$header"; shift; done
    # Only options that GNU's and busybox's both have.
    case $target in https:*) set -- --no-check-certificate "$@" ;; esac
    said=$(timed wget -q -S -O /dev/null -t 1 "$@" -- "$target" 2>&1)
    status=$?
    # An old busybox: its exit code is all that there is, and it takes a redirect's end for the answer.
    case $status$said in 1*" option "*)
      said=$(timed wget -q -O /dev/null "$target" 2>&1 && echo 'HTTP/ 200')
      status=$? ;;
    esac
    # GNU's says why only when it is not quiet. What was killed at the deadline has nothing to say.
    case $status$said in 0*|*HTTP/*|1[0-9][0-9]*) ;; *[a-z]*) why=$said ;; *)
      said=$(timed wget -nv -O /dev/null -t 1 "$@" -- "$target" 2>&1)
      why=$said said= ;;
    esac
    why=${why%%"$nl"*}
  else
    fetch_with_bash "$@"
  fi
}

# judge: of all answers in $said, sets code to the one that counts, and to, when that leads on to the same host.
judge() {
  code='' to='' elsewhere=''
  set -f
  IFS=$nl
  for line in $said; do
    line=${line#"${line%%[! ]*}"}
    case $line in
    HTTP/*)
      # wget follows whatever it is told to.
      [ -z "$elsewhere" ] || break
      [ -z "$code" ] || [ "$healthy" != 200 ] || break
      code=${line#* } code=${code%%[!0-9]*} to='' ;;
    [Ll]ocation:*)
      case $healthy$code in 200-39930[12378]) leads_to "${line#*:}" ;; esac ;;
    esac
  done
  unset IFS
  set +f
  [ "$code" != 000 ] || code=
  if [ -n "$followed" ] && [ -n "$to" ]; then
    code='' to='' why='it redirects to where no answer came from'
  fi
}

# leads_to LOCATION: sets to, or elsewhere when that is another host.
leads_to() {
  # The line's end in HTTP goes too.
  to=${1#"${1%%[! ]*}"} to=${to%[!!-~]}
  case $to in
  ''|http://*|https://*) ;;
  //*) to=${target%%//*}$to ;;
  /*) rest=${target#*://} to=${target%%://*}://${rest%%[/?#]*}$to ;;
  *) rest=${target%%[?#]*} to=${rest%/*}/$to ;;
  esac
  [ -n "$to" ] || return
  name_in "$url"; here=$host
  name_in "$to"
  [ "$host" = "$here" ] || elsewhere=yes to=
}

# name_in URL: sets host.
name_in() {
  host=${1#*://} host=${host%%[/?#]*}
  case $host in *]*) host=${host%%]*} ;; *) host=${host%%:*} ;; esac
}

# fetch_with_bash: for slim images, which have bash and neither curl nor wget. Where that is not there or cannot do it, we
# do not know whether the app lives. Saying that it does would hide each deadlock for ever, so the probe fails from the
# first day, with a sentence: that is found when the probe is put in, not at the first outage.
fetch_with_bash() {
  case $target in http://*) ;; *) no_tool https ;; esac
  command -v bash > /dev/null 2>&1 || no_tool http
  rest=${target#http://} host=${rest%%[/?#]*} path=${rest#"${rest%%[/?#]*}"}
  path=/${path#/} path=${path%%#*} port=80 peer=$host
  case $host in *:*[!0-9]*) ;; *:*) port=${host##*:} peer=${host%:*} ;; esac
  case $host in *]:*) port=${host##*:} peer=${host%:*} ;; esac
  peer=${peer#[} peer=${peer%]}
  said=$(timed bash -c 'exec 3<>"/dev/tcp/$1/$2" || exit
    request="GET $3 HTTP/1.0" host="Host: $4"
    shift 4
    for header; do case $header in [Hh]ost:*) host= ;; esac; done
    printf "%s\r\n" "$request" ${host:+"$host"} "$@" "Connection: close" "" >&3
    while IFS= read -r line <&3; do
      case $line in ""|?) exit 0 ;; esac
      echo "$line"
    done
    exit 1' noah-liveness "$peer" "$port" "$path" "$host" "$@" 2>/dev/null)
  status=$?
}

no_tool() {
  look
  say "nothing in this container can ask checkurl $url: it takes curl or wget (or bash, for http), and $who"
  exit 1
}

# is_healthy: the answer is what HEALTHY says. Tools may take one without a body for a failure.
is_healthy() {
  case $healthy$code in
  200200|200-399200) [ $status = 0 ] ;;
  200-399[23]??) [ $status -lt 128 ] ;;
  *) return 1 ;;
  esac
}

look
if [ "$url" = - ]; then say "$who"; exit 1; fi
ask "$@"
if is_healthy; then alive "checkurl $url answered $code"; fi
# A breakpoint may have been hit while checkurl was hanging.
look
if [ -n "$code" ] && [ "$code" != 200 ]; then answer="answered $code"
elif [ -n "$code" ]; then answer="answered 200 but did not come to an end within $limit s"
else answer="gave no answer (within $limit s${why:+: $why})"
fi
say "checkurl $url $answer and $who"
exit 1
