# The forwarder: makes a JVM's loopback JDWP port reachable for the gateway, and writes what the liveness probe reads.
# Runs in somebody else's container through the exec API, as `sh -s -- VERB ...`; POSIX sh: dash, busybox, bash.
#
#   start SESSION NAME JDWP WHERE CHECKPORT SECONDS STATE tcp GATEWAY PORT   socat on the first free port from PORT,
#                                                                           for GATEWAY's address only, and only for
#                                                                           who sends $token first, as a line
#   start SESSION NAME JDWP WHERE CHECKPORT SECONDS STATE unix   socat on a UNIX socket; connections come in by exec
#   start SESSION NAME JDWP WHERE CHECKPORT SECONDS STATE none   the report only: the gateway has a way of its own
#   Without socat, tcp and unix write and hold the report only, and the gateway's bytes go another way (`way report`).
#   word  SESSION NAME JDWP WHERE CHECKPORT SECONDS STATE        one word, where no stdin is held
#   look  SESSION NAME JDWP WHERE CHECKPORT
#   stop  SESSION NAME JDWP WHERE CHECKPORT
#
# WHERE is pod, host, or beside: in a container of its own in the JVM's pod, which sees the pod's sockets and none of the
# JVM's processes. NAME is then jvm:PORT, for the probe that reads it there. CHECKPORT is the port of checkurl, `-` where it is not known or not of this machine. SECONDS is
# how long the session lasts from now: a duration, for clocks differ. STATE is what the gateway says of the JVM: running,
# suspended, unknown, or free (nobody is attached through the gateway). liveness.sh says what the files hold.
#
# $token is set by a line before this script: a command line is for everybody to read. It is the gateway's secret of this
# session; each `start` brings another.
#
# Each verb prints lines of `key value`, the last one `done`. Exit code 0 unless the verb itself could not be carried out,
# and then the last line is `error WORD`. After that `start tcp` and `start unix` go on: they read lines `STATE SECONDS`
# from stdin, write each as the word, and answer `ok`, or `full` when it cannot be written; to `free` with the state of the
# agent's port behind it (free, taken, other: of another process, or none), and `over` when the JVM has ended. Called
# again, they hold what is there already: one exec is enough for a session.
#
# Rules that must stay true:
#  - Every process of a session has `-lp noah-SESSION` in its command line and is found by that; the report can be lost.
#  - The first `start` does not end: it is the parent that reaps socat. A java that is PID 1 reaps nothing, and what it
#    inherits stays as a zombie for ever; this shell's own parent is the container's shim, which does reap.
#  - A dead gateway changes nothing for the probe until the report's end; then all of it ends by itself. A debugger's bytes
#    pass for ten minutes without a word, and no longer: whether it may be here is then known to nobody.
#  - The JVM of a session stays the JVM of the session as long as it lives, whoever else takes its port.
#  - On a host it may run as root, where other users write to /dev/shm as well: it makes files that were not there, under
#    names that cannot be known, and believes and overwrites its own only.
#  - What may not be looked at is unknown; it is not taken for absent.
#  - Nobody connects to the JDWP port to see whether it is there: that would take its only slot.
#  - It ends by `exit`: an API server before 1.30 cannot close the stdin that this script comes by.
set -u
word_life=${noah_word_life:-600}  # seconds; the gateway says a word every ten seconds at least
umask 077  # the report and the socket are for the app's own user
verb=$1 session=$2 name=$3 jdwp=$4 where=$5 checkport=$6
dir=${NOAH_REPORTS:-/dev/shm}
report=$dir/noah-$name.$session.jvm
word=$dir/noah-$name.$session.word
# What probes read that were put in before there was the word. It says suspended without asking whether anybody is attached.
old=$dir/noah-$name.$session
# A name that nobody can know before: /dev/shm is everybody's, and this may run as root.
new=; read -r new 2>/dev/null < /proc/sys/kernel/random/uuid
new=$dir/.noah-$session.$new
sock=$dir/.noah-$session.sock
secret=$dir/.noah-$session.token

uptime() { read -r now _ < /proc/uptime; now=${now%.*}; }

pause() { sleep 0.02 2>/dev/null || sleep 1; }

fail() { echo "error $1"; exit 3; }

# -- processes

# stat PID: sets comm, state, parent, began, memory from /proc/PID/stat. The command stands in brackets and may contain
# brackets, spaces and newlines, so the fields are counted from its last bracket.
stat() {
  comm='' state='' parent='' began='' memory='' text=''
  while IFS= read -r line || [ -n "$line" ]; do text="$text $line"; done 2>/dev/null < "/proc/$1/stat" || return 1
  case $text in *\)*) ;; *) return 1 ;; esac
  comm=${text#*\(} comm=${comm%\)*}
  set -- ${text##*\)}
  state=$1 parent=$2
  shift 19
  began=$1 memory=$2
}

# running PID [START]: is there, is not a zombie, and is still the process that it was.
running() {
  case $1 in ''|*[!0-9]*) return 1 ;; esac
  stat "$1" || return 1
  case $state in Z|X|x) return 1 ;; esac
  [ -z "${2:-}" ] || [ "$began" = "$2" ]
}

# called PID PATTERN: has such a name. Asked first of each process: a shell reads byte by byte, and stat is 20 times as long.
called() {
  comm=''
  IFS= read -r comm 2>/dev/null < "/proc/$1/comm" || return 1
  case $comm in $2) ;; *) return 1 ;; esac
}

# neighbour PID: runs in another container of a pod that shares its processes, as its control groups tell.
neighbour() {
  [ "$where" = pod ] && [ ! "/proc/$1/root" -ef / ] || return 1
  while read -r mine <&5 && read -r theirs <&6; do
    case $theirs in */..*) return 0 ;; "$mine"|"${mine%/}"/*) ;; *) return 0 ;; esac
  done 2>/dev/null 5< /proc/self/cgroup 6< "/proc/$1/cgroup"
  return 1
}

# uid_of PID: sets uid.
uid_of() {
  uid=''
  while read -r key uid _; do [ "$key" != Uid: ] || return 0; done 2>/dev/null < "/proc/$1/status"
  return 1
}

# owns PID INODE...: has one of these sockets. 1: it has not; 2: its descriptors may be listed and not be read, as by root
# without SYS_PTRACE.
owns() {
  # ls also fails when one of many descriptors is closed meanwhile, and then has listed the others.
  fds=$(ls -l "/proc/$1/fd" 2>/dev/null)
  case $fds in
  *'-> '*) ;;
  # A process that ends gives its memory back, closes what it has open, and then is a zombie: it has nothing to be read.
  *) running "$1" && [ "$memory" != 0 ] || return 1
    return 2 ;;
  esac
  shift
  for inode; do
    case $fds in *"socket:[$inode]"*) return 0 ;; esac
  done
  return 1
}

# ours: sets all (every process of this session) and first (the socat that listens: the one whose parent is none of them).
ours() {
  all='' first='' listens=''
  for p in /proc/[0-9]*; do
    p=${p#/proc/}
    called "$p" 'socat*' && running "$p" || continue
    args=$(tr '\0' ' ' 2>/dev/null < "/proc/$p/cmdline") || continue
    case "$args " in *" -lp noah-$session "*) ;; *) continue ;; esac
    all="$all $p"
    case "$args" in *-LISTEN:*) listens="$listens $p:$parent" ;; esac
  done
  for p in $listens; do
    case "$all " in *" ${p#*:} "*) ;; *) first=${p%:*} ;; esac
  done
}

# port_of PID: sets port to what that socat listens on, 0 for a UNIX socket.
port_of() {
  args=$(tr '\0' ' ' 2>/dev/null < "/proc/$1/cmdline")
  port=${args#*TCP?-LISTEN:} port=${port%%,*}
  case $port in ''|*[!0-9]*) port=0 ;; esac
}

# -- sockets

# sockets PORT: sets listening and taken to the inodes of that port's sockets, and the uids of both, empty where there are
# none.
sockets() {
  listening='' taken='' listening_uids='' taken_uids=''
  hex=$(printf ':%04X' "$1")
  # Not by the shell alone: an app may have thousands of connections, and a shell reads this byte by byte (dash), or from
  # the start again for each line (bash).
  rows=$(grep -h "$hex " /proc/net/tcp /proc/net/tcp6 2>/dev/null)
  [ $? != 127 ] || rows=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null)
  while read -r _ local _ st _ _ _ owner _ inode _; do
    case $local in *"$hex") ;; *) continue ;; esac
    case $st in
    0A) listening="$listening $inode" listening_uids="$listening_uids $owner" ;;
    01) taken="$taken $inode" taken_uids="$taken_uids $owner" ;;
    esac
  done <<ROWS
$rows
ROWS
}

# agent_sockets: the sockets of the agent's port. Between two debuggers it has none for some milliseconds.
agent_sockets() {
  round=0
  while [ $((round += 1)) -le 25 ]; do
    sockets "$jdwp"
    [ -z "$listening$taken" ] || break
    pause
  done
}

# agent_of PID: sets agent to what its JDWP agent does at the port: free, taken or none.
agent_of() {
  agent=none
  if [ "$where" = beside ]; then
    [ -z "$listening" ] || agent=free
    [ -z "$taken" ] || agent=taken
    return
  fi
  owns "$1" $listening
  case $? in
  0) agent=free; return ;;
  1) ! owns "$1" $taken || agent=taken; return ;;
  esac
  uid_of "$1"
  case "$taken_uids " in *" $uid "*) agent=taken ;; esac
  case "$listening_uids " in *" $uid "*) agent=free ;; esac
}

# jvm: sets java (PID START of the session's JVM, empty if there is none), agent, and jvms (how many there are). The JVM is
# the one that the report names while it lives; else the one that has the agent's socket; else, of those whose sockets may
# not be looked at, the oldest of the socket's user; else the oldest.
jvm() {
  java='' agent=none jvms=0
  agent_sockets
  if [ "$where" = beside ]; then
    agent_of -
    [ "$agent" = none ] || java='0 0' jvms=1
    return
  fi
  owner='' likely='' likely_began='' oldest='' oldest_began=''
  for p in /proc/[0-9]*; do
    p=${p#/proc/}
    called "$p" 'java*' && running "$p" || continue
    ! neighbour "$p" || continue
    jvms=$((jvms + 1))
    [ -n "$oldest" ] && [ "$began" -ge "$oldest_began" ] || oldest="$p $began" oldest_began=$began
    [ -n "$listening$taken" ] || continue
    owns "$p" $listening $taken
    case $? in
    0) owner="$p $began" ;;
    2) uid_of "$p"
      case "$listening_uids$taken_uids " in *" $uid "*) ;; *) continue ;; esac
      [ -n "$likely" ] && [ "$began" -ge "$likely_began" ] || likely="$p $began" likely_began=$began ;;
    esac
  done
  if read_report && running "$jpid" "$jstart"; then java="$jpid $jstart"
  elif [ $jvms = 0 ] && [ -n "$listening$taken" ]; then owner_of_any_name
  else java=${owner:-${likely:-$oldest}}
  fi
  [ -z "$java" ] || agent_of "${java%% *}"
}

# owner_of_any_name: a JVM that was started by a launcher of its own (jpackage, JNI) is called as that is.
owner_of_any_name() {
  for p in /proc/[0-9]*; do
    p=${p#/proc/}
    running "$p" && ! neighbour "$p" && owns "$p" $listening $taken || continue
    java="$p $began" jvms=1
    return
  done
}

# behind_checkurl: sets whose to own when the session's JVM listens at checkurl's port, to other when another JVM does.
# Anything else, a web server before the app for one, stays unseen.
behind_checkurl() {
  whose=unseen
  [ "$where" != beside ] || return
  case $checkport in ''|*[!0-9]*) return ;; esac
  sockets "$checkport"
  [ -n "$listening" ] || return
  if owns "${java%% *}" $listening; then whose=own; return; fi
  for p in /proc/[0-9]*; do
    p=${p#/proc/}
    called "$p" 'java*' && running "$p" || continue
    if owns "$p" $listening; then whose=other; return; fi
  done
}

# -- what the probe reads

# is_own FILE: is this user's own file; none that somebody else has put there, and no link to one.
is_own() { [ ! -L "$1" ] && [ -f "$1" ] && [ -O "$1" ]; }

# read_report: sets jpid jstart until whose; 1 when there is none.
read_report() {
  jpid='' jstart='' until=0 whose=unseen
  is_own "$report" && read -r version jpid jstart until _ _ whose _ 2>/dev/null < "$report" || return 1
  case $until in ''|*[!0-9]*|???????????*) until=0; return 1 ;; esac
  [ "$version" = 2 ]
}

# read_word: sets said and since.
read_word() {
  said='' since=0
  is_own "$word" && read -r said since _ 2>/dev/null < "$word"
  case $since in ''|*[!0-9]*|???????????*) since=0 ;; esac
}

# write_word STATE: 1 when it could not be written (a full /dev/shm). In place, without a process of its own: it is
# written every second while somebody is attached. What a probe reads of it in between is unknown, and spares.
write_word() {
  uptime
  case "$said $1" in 'suspended running'|'suspended free'|'unknown running'|'unknown free') since=$now ;; esac
  said=$1
  # A folder like /dev/shm lets nobody else replace a file that is this user's already.
  if is_own "$word"; then printf '%s %s %s\n' "$1" "$since" "$now" 2>/dev/null > "$word"
  else replace "$word" "$1 $since $now"
  fi
}

# write_report SECONDS STATE: all that the probe reads. 1 when it could not be written.
write_report() {
  # Where nothing is forwarded from here, who reports is the gateway's user, and who probes may be anybody.
  [ -n "$first" ] || umask 022
  read_word
  behind_checkurl
  write_word "$2" || return 1
  until=$((now + $1))
  replace "$report" "2 $java $until $(printf ':%04X' "$jdwp") $where $whose" && write_old_report
}

write_old_report() {
  forwarder='- -' seen=$said
  [ -z "$first" ] || { stat "$first" && forwarder="$first $began"; }
  [ "$whose" != other ] && [ "$seen" != free ] || seen=running
  replace "$old" "1 $forwarder $java $until $seen $since"
}

# replace FILE LINE: whole or not at all.
replace() {
  ( set -C; printf '%s\n' "$2" > "$new" ) 2>/dev/null && rename "$1" && return
  rm -f "$new"
  return 1
}

# rename FILE: $new becomes FILE, and does not go into a folder that has its name. Not every mv knows -T.
rename() {
  ! mv -fT "$new" "$1" 2>/dev/null || return 0
  [ ! -L "$1" ] || rm -f "$1"
  [ ! -d "$1" ] && mv -f "$new" "$1" 2>/dev/null
}

# sweep: removes what other sessions left whose gateway did not come back.
sweep() {
  uptime
  for left in "$dir/noah-$name."*.jvm; do
    [ -f "$left" ] && [ -O "$left" ] && read -r _ _ _ ended _ 2>/dev/null < "$left" || continue
    case $ended in ''|*[!0-9]*) continue ;; esac
    [ "$now" -lt "$ended" ] || rm -f "$left" "${left%.jvm}.word" "${left%.jvm}"
  done
}

# hear: writes each word that comes by stdin, and answers. Ends with stdin, or with what it speaks for: the socat, or
# without one the report.
hear() {
  while read -r heard seconds _; do
    if [ -n "$first" ]; then running "$first" "$first_began" || return 0
    else [ -f "$report" ] || return 0
    fi
    [ "$where" = beside ] || running "${java%% *}" "${java#* }" || echo over
    case $heard in free|running|suspended|unknown) ;; *) continue ;; esac
    case $seconds in ''|*[!0-9]*|?????????*) continue ;; esac
    slot=
    [ "$heard" != free ] || slot_of_agent
    write_next "$seconds" "$heard" && echo "ok$slot" || echo "full$slot"
  done
}

# write_next SECONDS STATE: the word alone while nothing else has changed. 1 when it could not be written.
write_next() {
  uptime
  late=$((now + $1 - until))
  # An extension; less than that is a clock's rounding.
  if [ "$2" != "$said" ] || [ $late -gt 2 ] || [ $late -lt -2 ]; then write_report "$1" "$2"
  else write_word "$2"
  fi
}

# slot_of_agent: sets slot to the state of the agent's port.
slot_of_agent() {
  agent_sockets
  agent_of "${java%% *}"
  slot=" $agent"
  [ "$agent" != none ] || [ -z "$listening" ] || slot=' other'
}

# -- the verbs

show() {
  uptime
  for tool in socat curl wget bash; do ! command -v $tool > /dev/null 2>&1 || echo "tool $tool"; done
  # A full /dev/shm says that it is writable.
  ( set -C; printf 'x\n' > "$new" ) 2>/dev/null && echo writable
  rm -f "$new"
  echo "agent $agent"
  echo "jvms $jvms"
  [ -z "$java" ] || { echo "java $java"; stat "${java%% *}" && echo "java-age $((now - began / 100))"; }  # USER_HZ is 100
  [ "$where" = beside ] || { stat 1 && echo "container-age $((now - began / 100))"; }
  if [ -n "$first" ]; then port_of "$first"; stat "$first" && echo "forwarder $first $began $port"
  elif [ "$where" = host ] || [ "$way" = report ]; then
    ! read_report || [ "$jpid $jstart" != "$java" ] || echo "forwarder - - 0"
  fi
  [ "$where" != beside ] || echo "clock $(date +%s)"
  [ "$way" != report ] || echo 'way report'
  echo done
}

# end_all: the children first, so that their parent reaps them; then the parent, which this script's `start` reaps.
# Sets all to what is left.
end_all() {
  for signal in TERM KILL; do
    round=0
    while [ $((round += 1)) -le 40 ]; do
      ours
      [ -n "$all" ] || return 0
      others=
      for p in $all; do [ "$p" = "$first" ] || others="$others $p"; done
      kill -s $signal ${others:-$first} 2>/dev/null
      pause
    done
  done
  ours
}

# let_go: waits until no script holds this session any more, for 2 s: the gateway has closed their stdin, their socat has
# ended, and each writes the word that it has read.
let_go() {
  round=0 held=yes
  while [ -n "$held" ] && [ $((round += 1)) -le 100 ]; do
    held=''
    for p in /proc/[0-9]*; do
      p=${p#/proc/}
      called "$p" '*sh' || called "$p" 'busybox*' || continue
      args=$(tr '\0' ' ' 2>/dev/null < "/proc/$p/cmdline") || continue
      case $args in *" start $session "*) held=$p ;; esac
    done
    [ -z "$held" ] || pause
  done
}

# end_session: leaves nothing of it. Sets all to what is left.
end_session() {
  rm -f "$report" "$word" "$old" "$sock" "$secret"
  end_all
  # The watchdog is in a script that holds it.
  [ "$verb" != stop ] || let_go
  # A word that was on its way may have been written meanwhile, or its writer have been killed before it was whole.
  rm -f "$report" "$word" "$old" "$dir/.noah-$session."*
}

# watchdog: ends everything when the report is no longer in force. An extension is seen when it wakes.
# lapsed: the gateway has not said a word for so long that nobody knows any more whether this debugger may be here. Sets
# left to the seconds until then, and said, since and said_at to the last word. A word that cannot be read is no reason.
lapsed() {
  said='' since=0 said_at='' left=$word_life
  is_own "$word" && read -r said since said_at _ 2>/dev/null < "$word"
  case $said_at in ''|*[!0-9]*|???????????*) return 1 ;; esac
  uptime
  left=$((said_at + word_life - now))
  [ $left -le 0 ]
}

# cut: ends the debugger's way to the JVM, which resumes it. The report stays: the session may be held again.
cut() {
  ours
  [ -n "$all" ] || return 0
  end_all
  case $said in suspended|unknown) since=$now ;; esac  # the app has to find its way back
  replace "$word" "free $since $said_at"
}

watchdog() {
  # $! and not a variable: a signal between the fork and an assignment would leave the sleep, and wait for its end. KILL:
  # dash loses a TERM that comes between its fork and the exec of sleep.
  trap 'kill -9 $! 2>/dev/null; wait; exit 0' TERM
  while read_report && uptime && [ "$now" -lt "$until" ]; do
    rest=$((until - now))
    # Whoever cut it looks again: a `stop` or an end must not wait for the session's.
    if lapsed; then cut; left=$word_life; fi
    [ $rest -lt $left ] || rest=$left
    sleep $rest &
    wait $!
  done
  end_session
}

# -t: how long the other direction may go on after one side has closed. -b: JDWP's big replies in few system calls.
to_agent="-lp noah-$session -t 5 -b 65536"
agent_address="TCP4:127.0.0.1:$jdwp,nodelay"

# listen_on ADDRESS CHECK THEN: starts socat there, which has each connection do THEN, and waits until CHECK says that it
# listens; 1 when it ended instead.
listen_on() {
  socat $to_agent "$1" "$3" > /dev/null 2>&1 < /dev/null & first=$!
  round=0
  while [ $((round += 1)) -le 100 ]; do
    $2 && return 0
    running $first || break
    pause
  done
  kill $first 2>/dev/null
  wait $first
  return 1
}
port_listens() { sockets "$port"; [ -n "$listening" ]; }
socket_is_there() { [ -S "$sock" ]; }

# What each connection by TCP runs in the process that socat has forked for it, with the connection as its stdin and stdout:
# reads a line, and becomes the socat to the agent. A shell reads no byte beyond the line from a socket. It is handed over as
# a variable, and written without what socat's addresses take for their own. Anybody in the pod's network may come from the
# gateway's address, and a gateway may be led here by the address of another pod.
gate='read -r wanted < "$NOAH_SECRET" && read -r got && case $got in "$wanted") exec socat $NOAH_SOCAT STDIO,shut-down $NOAH_AGENT ;; esac'
gated='EXEC:sh -c eval$IFS$NOAH_GATE,nofork'

# keep_secret: for the processes that connections become.
keep_secret() {
  case ${token:-} in ''|*[!0-9a-zA-Z]*) fail token ;; esac
  replace "$secret" "$token"
}

# towards GATEWAY: sets kind and only, the addresses that socat lets in.
towards() {
  case $1 in *:*) kind=TCP6-LISTEN only="[$1]/128" ;; */*) kind=TCP4-LISTEN only=$1 ;; *) kind=TCP4-LISTEN only=$1/32 ;; esac
}

# is_ours PID WAY [GATEWAY]: that socat is reached by exec, or asks for the secret and lets this gateway in. One of an
# earlier version does not ask; one of another gateway lets in that one only, which may be the very gateway to which a
# debugger of this session is attached now: while one is, it is left as it is.
is_ours() {
  args=$(tr '\0' ' ' 2>/dev/null < "/proc/$1/cmdline")
  case $args in *UNIX-LISTEN*) return 0 ;; *NOAH_GATE*) ;; *) return 1 ;; esac
  [ "$2" = tcp ] && [ "$told" = free ] || return 0
  towards "$3"
  case $args in *",range=$only,"*) return 0 ;; *) return 1 ;; esac
}

# forward tcp GATEWAY PORT | forward unix
forward() {
  if [ "$1" = unix ]; then
    rm -f "$sock"
    listen_on "UNIX-LISTEN:$sock,fork,max-children=8" socket_is_there "$agent_address" || fail socat
    return
  fi
  keep_secret || fail report
  export NOAH_SECRET="$secret" NOAH_SOCAT="$to_agent" NOAH_AGENT="$agent_address" NOAH_GATE="$gate"
  towards "$2"
  port=$3 tries=0
  while [ $tries -lt 100 ]; do
    if port_listens; then port=$((port + 1)) tries=$((tries + 1)); continue; fi
    # keepalive: a gateway that vanished without a word must not leave the VM suspended.
    listen_on "$kind:$port,range=$only,fork,reuseaddr,max-children=8,nodelay,keepalive,keepidle=15,keepintvl=5,keepcnt=4" \
      port_listens "$gated" && return
    port=$((port + 1)) tries=$((tries + 10))
  done
  fail port
}

way=
command -v socat > /dev/null 2>&1 || way=report
case $verb in
look)
  ours; jvm; show ;;

word)
  # Every other second while somebody is attached: nothing is looked for that the report does not name.
  first=''
  if read_report && running "$jpid" "$jstart"; then
    java="$jpid $jstart"
    read_word
    write_next "$7" "$8" || fail report
  fi
  echo done ;;

stop)
  end_session
  [ -z "$all" ] || fail "left$all"
  echo done ;;

start)
  seconds=$7 told=$8
  [ "$way" = report ] && [ "$9" != none ] || way=$9
  [ -w "$dir" ] || fail report
  ours; jvm
  if [ -z "$java" ] || [ "$agent" = none ]; then show; exit 0; fi
  if [ "$way" = none ] || [ "$way" = report ]; then
    write_report "$seconds" "$told" || fail report
    [ "$way" = none ] || sweep
    show
    # What the report says ends by itself; the files go with `stop`, or with the next session.
    [ "$way" = none ] || hear
    exit 0
  fi
  if [ -n "$first" ] && ! is_ours "$first" "$way" "${10:-}"; then end_all; first=; fi
  if [ -n "$first" ]; then  # the gateway was away: what it left is held again
    [ "$way" != tcp ] || keep_secret || fail report
    stat "$first" && first_began=$began
    # What is written already still counts, and says how long.
    write_report "$seconds" "$told" || read_report || fail report
    show
    hear
    exit 0
  fi
  shift 8
  forward "$@"
  stat "$first" || fail socat
  first_began=$began socat=$first
  write_report "$seconds" "$told" || { kill "$socat"; wait "$socat"; fail report; }
  show
  exec 3<&0
  # By a trap, so that it ends between two commands: what it has begun would be left to a PID 1 that reaps nothing.
  ( trap 'exit 0' TERM; hear ) <&3 & ear=$!
  exec > /dev/null 2>&1 < /dev/null 3<&-
  watchdog & dog=$!
  wait "$socat"
  # Ended by `stop`, by the deadline, or killed. Then its children may go on for a debugger that is attached; the next
  # `start` of this session has a watchdog for them too.
  kill $ear 2>/dev/null
  if lapsed; then wait $dog; fi  # which has cut it, and looks after the report
  kill $dog 2>/dev/null
  wait
  rm -f "$new" ;;  # of the one that was ended while it replaced a file
esac
exit 0
