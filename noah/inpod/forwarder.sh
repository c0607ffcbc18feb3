# The forwarder: makes a JVM's loopback JDWP port reachable for the gateway, and tells the liveness probe about it.
# Runs in somebody else's container through the exec API, as `sh -c THIS noah-forwarder VERB ...`; POSIX sh, dash or busybox.
#
#   start  SESSION NAME JDWP SECONDS STATE tcp GATEWAY PORT   socat on the first free TCP port from PORT, for GATEWAY only
#   start  SESSION NAME JDWP SECONDS STATE unix               socat on a UNIX socket; connections come in by exec
#   start  SESSION NAME JDWP SECONDS STATE none               the report only: the gateway has a way of its own
#   look   SESSION NAME JDWP
#   report SESSION NAME JDWP SECONDS STATE                    STATE is running, suspended or unknown
#   stop   SESSION NAME JDWP
#
# Each prints lines of `key value`, the last one `done`. Exit code 0 unless the verb itself could not be carried out, and
# then the last line is `error WORD`. SECONDS is how long the session lasts from now: a duration, for clocks differ.
#
# Rules that must stay true:
#  - Every process of a session has `-lp noah-SESSION` in its command line and is found by that; the report can be lost.
#  - `start` does not end: it is the parent that reaps socat. A java that is PID 1 reaps nothing, and what it inherits
#    stays as a zombie for ever; this shell's own parent is the container's shim, which does reap.
#  - A dead gateway changes nothing here until the report's end; then all of it ends by itself.
#  - Nobody connects to the JDWP port to see whether it is there: that would take its only slot.
set -u
umask 077  # the report and the socket are for the app's own user
verb=$1 session=$2 name=$3 jdwp=$4
dir=${NOAH_REPORTS:-/dev/shm}
file=$dir/noah-$name.$session
sock=$dir/.noah-$session.sock

uptime() { read -r now _ < /proc/uptime; now=${now%.*}; }

# stat PID: sets comm, state, parent, began from /proc/PID/stat. The command stands in brackets and may contain brackets,
# spaces and newlines, so the fields are counted from its last bracket.
stat() {
  comm='' state='' parent='' began='' text=''
  while IFS= read -r line || [ -n "$line" ]; do text="$text $line"; done 2>/dev/null < "/proc/$1/stat" || return 1
  case $text in *\)*) ;; *) return 1 ;; esac
  comm=${text#*\(} comm=${comm%\)*}
  set -- ${text##*\)}
  state=$1 parent=$2
  shift 19
  began=$1
}

# running PID [START]: is there, is no zombie, and is still the process that it was.
running() {
  case $1 in ''|*[!0-9]*) return 1 ;; esac
  stat "$1" || return 1
  case $state in Z|X|x) return 1 ;; esac
  [ -z "${2:-}" ] || [ "$began" = "$2" ]
}

# ours: sets all (every process of this session) and first (the socat that listens: the one whose parent is none of them).
ours() {
  all='' first='' listens=''
  for p in /proc/[0-9]*; do
    p=${p#/proc/}
    running "$p" || continue
    case $comm in socat*) ;; *) continue ;; esac
    args=$(tr '\0' ' ' < "/proc/$p/cmdline" 2>/dev/null) || continue
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
  args=$(tr '\0' ' ' < "/proc/$1/cmdline" 2>/dev/null)
  port=${args#*TCP?-LISTEN:} port=${port%%,*}
  case $port in ''|*[!0-9]*) port=0 ;; esac
}

# sockets PORT: sets listening and taken to the inodes of the sockets of that port, empty when there are none.
sockets() {
  listening='' taken=''
  hex=$(printf ':%04X' "$1")
  # Not by the shell alone: an app may have thousands of connections, and a shell reads this byte by byte (dash), or from
  # the start again for each line (bash).
  rows=$(grep -h "$hex " /proc/net/tcp /proc/net/tcp6 2>/dev/null)
  [ $? != 127 ] || rows=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null)
  while read -r _ local _ st _ _ _ _ _ inode _; do
    case $local in *"$hex") ;; *) continue ;; esac
    case $st in 0A) listening=$inode ;; 01) taken=$inode ;; esac
  done <<ROWS
$rows
ROWS
}

# jvm: sets java (PID START of the JVM, empty if there is none) and agent (free, taken, none). Where file descriptors can be
# read, the JVM is the process that has the agent's socket; elsewhere it is the first java.
jvm() {
  java='' agent=none
  # Between two debuggers the agent has no socket for some milliseconds.
  round=0
  while [ $((round += 1)) -le 25 ]; do
    sockets "$jdwp"
    [ -z "$listening$taken" ] || break
    pause
  done
  [ -z "$taken" ] || agent=taken
  [ -z "$listening" ] || agent=free
  inode=${listening:-$taken} readable='' owner=''
  for p in /proc/[0-9]*; do
    p=${p#/proc/}
    running "$p" || continue
    case $comm in java*) ;; *) continue ;; esac
    : "${java:=$p $began}"
    [ -n "$inode" ] || continue
    # ls also fails when one of many descriptors is closed meanwhile, and then has listed the others.
    fds=$(ls -l "/proc/$p/fd" 2>/dev/null)
    [ -n "$fds" ] || continue
    readable=yes
    case $fds in *"socket:[$inode]"*) owner="$p $began" ;; esac
  done
  if [ -n "$owner" ]; then java=$owner
  # All JVMs of this container were seen and none has it: the port is another container's of the pod.
  elif [ -n "$readable" ]; then agent=none
  fi
}

# read_report: sets fpid fstart jpid jstart until told since; 1 when there is none.
read_report() {
  fpid='' fstart='' jpid='' jstart='' until=0 told='' since=0
  [ -f "$file" ] && read -r version fpid fstart jpid jstart until told since _ 2>/dev/null < "$file" || return 1
  case $version$until$since in *[!0-9]*) return 1 ;; esac
  [ "$version" = 1 ]
}

# write_report FPID FSTART SECONDS STATE: 1 when it could not be written (a full /dev/shm).
write_report() {
  # Where nothing is forwarded from here, who reports is the gateway's user, and who probes may be anybody.
  [ "$1" != - ] || umask 022
  uptime
  read_report && [ "$told" = "$4" ] || since=$now
  until=$((now + $3)) told=$4
  printf '1 %s %s %s %s %s %s\n' "$1" "$2" "$java" "$until" "$told" "$since" 2>/dev/null > "$dir/.noah-$session.new" &&
    mv -f "$dir/.noah-$session.new" "$file" 2>/dev/null
}

show() {
  uptime
  for tool in socat curl wget; do ! command -v $tool > /dev/null 2>&1 || echo "tool $tool"; done
  [ ! -w "$dir" ] || echo writable
  echo "agent $agent"
  [ -z "$java" ] || { echo "java $java"; stat "${java%% *}" && echo "java-age $((now - began / 100))"; }  # USER_HZ is 100
  stat 1 && echo "container-age $((now - began / 100))"
  whose='- -'
  if [ -n "$first" ]; then port_of "$first"; stat "$first" && whose="$first $began" && echo "forwarder $whose $port"; fi
  # A report is only worth something if it names the socat and the JVM that there are.
  if read_report && [ "$fpid $fstart" = "$whose" ] && [ "$jpid $jstart" = "$java" ]; then
    [ -n "$first" ] || echo "forwarder - - 0"
    echo "report $told $((until - now))"
  fi
  echo done
}

fail() { echo "error $1"; exit 3; }

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

pause() { sleep 0.02 2>/dev/null || sleep 1; }

# watchdog: ends everything when the report is no longer in force. An extension is seen when it wakes.
watchdog() {
  # $! and not a variable: a signal between the fork and an assignment would leave the sleep, and wait for its end. KILL:
  # dash loses a TERM that comes between its fork and the exec of sleep.
  trap 'kill -9 $! 2>/dev/null; wait; exit 0' TERM
  while read_report && uptime && [ "$now" -lt "$until" ]; do
    sleep $((until - now)) &
    wait $!
  done
  rm -f "$file" "$sock"
  end_all
}

# listen_on ADDRESS CHECK: starts socat there and waits until CHECK says that it listens; 1 when it ended instead.
listen_on() {
  # -t: how long the other direction may go on after one side has closed. -b: JDWP's big replies in few system calls.
  socat -lp "noah-$session" -t 5 -b 65536 "$1" "TCP4:127.0.0.1:$jdwp,nodelay" > /dev/null 2>&1 < /dev/null & first=$!
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

# forward tcp GATEWAY PORT | forward unix
forward() {
  if [ "$1" = unix ]; then
    rm -f "$sock"
    listen_on "UNIX-LISTEN:$sock,fork,max-children=8" socket_is_there || fail socat
    return
  fi
  case $2 in *:*) kind=TCP6-LISTEN only="[$2]/128" ;; */*) kind=TCP4-LISTEN only=$2 ;; *) kind=TCP4-LISTEN only=$2/32 ;; esac
  port=$3 tries=0
  while [ $tries -lt 100 ]; do
    if port_listens; then port=$((port + 1)) tries=$((tries + 1)); continue; fi
    # keepalive: a gateway that vanished without a word must not leave the VM suspended.
    listen_on "$kind:$port,range=$only,fork,reuseaddr,max-children=8,nodelay,keepalive,keepidle=15,keepintvl=5,keepcnt=4" \
      port_listens && return
    port=$((port + 1)) tries=$((tries + 10))
  done
  fail port
}

case $verb in
look)
  ours; jvm; show ;;

report)
  ours; jvm
  if [ -z "$java" ]; then :
  elif [ -n "$first" ] && stat "$first"; then write_report "$first" "$began" "$5" "$6" || fail report
  elif read_report && [ "$fpid" = - ]; then write_report - - "$5" "$6" || fail report
  fi
  show ;;

stop)
  rm -f "$file" "$sock"
  end_all
  [ -z "$all" ] || fail "left$all"
  echo done ;;

start)
  seconds=$5 state_told=$6 way=$7
  [ "$way" = none ] || command -v socat > /dev/null 2>&1 || fail no-socat
  [ -w "$dir" ] || fail report
  ours; jvm
  if [ -z "$java" ] || [ "$agent" = none ]; then show; exit 0; fi
  if [ "$way" = none ]; then
    write_report - - "$seconds" "$state_told" || fail report
    show; exit 0
  fi
  if [ -n "$first" ]; then  # a start whose answer was lost
    stat "$first" && write_report "$first" "$began" "$seconds" "$state_told" || fail report
    show; exit 0
  fi
  shift 6
  forward "$@"
  stat "$first" || fail socat
  socat=$first
  write_report "$first" "$began" "$seconds" "$state_told" || { kill "$socat"; wait "$socat"; fail report; }
  show
  exec > /dev/null 2>&1 < /dev/null
  watchdog & dog=$!
  wait "$socat"
  # Ended by `stop`, by the deadline, or killed. Then its children may go on for a debugger that is attached; the next
  # `start` of this session has a watchdog for them too.
  kill $dog 2>/dev/null
  wait $dog ;;
esac
