# preOnline: a sidecar that says when the app is online, by SHARED/healthcheck.html. sh -c HOOK+THIS noah-preonline
#
#   PROBE     the text of liveness.sh, which asks checkurl
#   URL       checkurl
#   PORT      where the app listens; 0: not known
#   SCRIPT    the hook; where there is none, checkurl is enough
#   SECONDS   how long it may take
#   TRIES     how often it is run until it has failed for good
#   SHARED    the directory that the app's container has too
#   HEALTHY HEADER...  as liveness.sh takes them
#
# Rules that must stay true:
#  - healthcheck.html is there only after checkurl has passed and then the hook, for the process that the app is now.
#  - It goes first of all: on SIGTERM, and before that by the container's preStop, which leaves .noah-stopping.
#  - An app that is suspended by a debugger is not online, and is again when checkurl answers, with no hook in between.
#  - SHARED/.noah-preonline holds one sentence, which the readiness probe of this container puts into an event.
set -u
probe=$1 url=$2 port=$3 script=$4 seconds=$5 tries=$6 shared=$7
shift 7
# As in liveness.sh; here for what is said.
case $url in *'//$NOAH_POD_IP:'*)
  ip=${NOAH_POD_IP:-127.0.0.1}
  case $ip in *:*) ip=[$ip] ;; esac
  url=${url%%'$NOAH_POD_IP'*}$ip${url#*'$NOAH_POD_IP'} ;;
esac
online=$shared/healthcheck.html
# checkurl may fail so often in a row: one slow garbage collection takes nobody offline.
patience=3

# say SENTENCE: once for each change.
said=
say() {
  [ "$1" != "$said" ] || return 0
  said=$1
  printf 'noah: %s\n' "$1"
  (printf '%s\n' "$1" > "$shared/.noah-preonline") 2>/dev/null
}

pause() { sleep "$1" & wait $!; }

# listens: whether somebody listens at the app's port. Costs no fork, and tells an app that is down from one that is slow.
listens() {
  [ "$port" != 0 ] || return 0
  for table in /proc/net/tcp /proc/net/tcp6; do
    [ -r $table ] || continue
    while read -r _ local _ st _; do
      case $local$st in *"$hex"0A) return 0 ;; esac
    done < $table
  done
  return 1
}

# checks HEALTHY HEADER...: whether checkurl passes; else answer is what was found. Reports of debuggers are not looked at,
# so that nothing can be said of who is debugging.
checks() {
  answer=$(NOAH_REPORTS=/nowhere sh -c "$probe" noah-liveness "$url" 2 jvm "$@" 2>&1) && return
  answer=${answer#noah: } answer=${answer%nobody is debugging} answer=${answer% and } answer=${answer%,}
  return 1
}

offline() {
  rm -f "$online"
  say "$1"
}

# begun: sets start to when the app's process began, as far as preStart has noted it.
begun() { start=; [ ! -f "$shared/.noah-start" ] || read -r start < "$shared/.noah-start" || :; } 2>/dev/null

# start_over SENTENCE: the app is another process from now on.
start_over() {
  hooked='' tried=0 failures=0
  offline "$1"
}

run_hook() {
  tried=$((tried + 1))
  if ! usable "$script"; then hooked=yes; return; fi
  if [ -z "$why" ]; then
    say "checkurl passes; preOnline runs $script (try $tried of $tries)"
    hook preOnline "$script" "$seconds" "$shared/.noah-preonline" && hooked=yes && return
  else
    tried=$tries
  fi
  if [ "$tried" -ge "$tries" ]; then say "preOnline failed for good: $why; there will be no healthcheck.html"
  else say "preOnline: $why (try $tried of $tries)"; pause 5
  fi
}

# go_online: at once there or not at all; a full volume must not leave an empty file.
go_online() {
  [ ! -f "$online" ] || return 0
  if (printf 'online\n' > "$shared/.noah-online") 2>/dev/null && mv -f "$shared/.noah-online" "$online" 2>/dev/null; then
    [ ! -e "$shared/.noah-stopping" ] || rm -f "$online"
    say "online: healthcheck.html is there"
  else
    rm -f "$shared/.noah-online"
    say "healthcheck.html cannot be written: $shared is full or read-only"
  fi
}

hex=$(printf ':%04X' "$port")
rm -f "$online" "$shared/.noah-stopping"
trap 'rm -f "$online"; leave TERM 0' TERM INT
hooked='' tried=0 failures=0 before=''
begun
before=$start
say "waiting for checkurl $url"
while :; do
  begun
  if [ "$start" != "$before" ]; then before=$start; start_over "the app starts; waiting for checkurl $url"; fi
  if [ -e "$shared/.noah-stopping" ]; then offline "the pod ends"
  elif ! listens; then
    if [ -n "$hooked" ]; then start_over "the app is down: nothing listens on port $port"; fi
  elif checks "$@"; then
    failures=0
    if [ -n "$hooked" ]; then go_online
    elif [ "$tried" -lt "$tries" ]; then
      run_hook
      # checkurl is asked once more before healthcheck.html is there.
      [ -z "$hooked" ] || continue
    fi
  else
    failures=$((failures + 1))
    if [ ! -f "$online" ]; then [ "$tried" -ge "$tries" ] || say "waiting for checkurl: $answer"
    elif [ $failures -ge $patience ]; then offline "checkurl fails: $answer"
    fi
  fi
  pause 1
done
