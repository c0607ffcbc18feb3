# A release's hook, run in the app's own image. Not a script by itself: it stands before prestart.sh and preonline.sh.
# POSIX sh: dash, busybox, bash. A comment has a line of its own: those lines are left out of the pod's manifest; and no
# `$` twice in a row, and no name in `$()` with nothing else: the kubelet expands those in a container's command.
dir=${NOAH_REPORTS:-/dev/shm}
running='' timer=''

# usable FILE: 1 when there is no hook; sets why when it cannot be run.
usable() {
  why=
  [ -e "$1" ] || return 1
  if [ ! -f "$1" ]; then why="$1 is no file"
  elif [ ! -x "$1" ]; then why="$1 is not executable: set its x bit in the image"
  fi
}

# hook MARK FILE SECONDS LAST: runs FILE; its output goes to stdout with the mark, line by line. Returns its exit code,
# with why set when that is not 0; its last lines then are appended to LAST. What it leaves running needs an output of its
# own: this one's ends with the hook.
hook() {
  pipe=$dir/.noah-$1 mark=$1 last=$4 marker=''
  # A process group of its own, where that can be had: what a hook has started must not outlive its deadline.
  group=; ! command -v setsid > /dev/null 2>&1 || group=setsid
  rm -f "$pipe" 2>/dev/null
  if mkfifo -m 600 "$pipe" 2>/dev/null; then
    exec 4<> "$pipe"
    rm -f "$pipe"
    marked "$mark" "$last" <&4 4>&- & marker=$!
    $group "$2" >&4 2>&1 4>&- & running=$!
  else
    $group "$2" 2>&1 & running=$!
  fi
  ( trap 'kill -9 $!; wait; exit 1' TERM; sleep "$3" & wait $! && trap '' TERM && end_hook KILL; exit 0 ) \
    > /dev/null 2>&1 4>&- & timer=$!
  wait $running 2>/dev/null; code=$?
  running=
  # dash loses a signal that comes between its fork and the child's own trap.
  until is_over $timer; do
    kill $timer 2>/dev/null
    is_over $timer || sleep 0.1 2>/dev/null || sleep 1
  done
  if wait $timer; then late=yes; else late=; fi
  why=
  if [ $code != 0 ]; then why="$2 failed with exit code $code"; fi
  if [ -n "$late" ]; then code=124 why="$2 did not end within $3 s"; fi
  if [ -n "$marker" ]; then
    [ $code = 0 ] || printf 'noah: %s %s\n' "$mark" "$why" 2>/dev/null > "$last"
    # What it printed is in the pipe before this line is.
    printf '\nnoah-hook-end %s\n' $code >&4
    exec 4>&-
    wait $marker
  fi
  return $code
}

# is_over PID: is gone, or a zombie that has not been waited for.
is_over() {
  read -r stat 2>/dev/null < "/proc/$1/stat" || return 0
  case ${stat##*\)} in ' Z'*) return 0 ;; *) return 1 ;; esac
}

# end_hook SIGNAL
end_hook() { [ -z "$running" ] || kill "-$1" "-$running" 2>/dev/null || kill "-$1" "$running" 2>/dev/null; }

# marked MARK LAST: copies lines from stdin until the one that tells the end.
marked() {
  trap '' TERM
  a='' b='' c='' d='' e='' held=
  while IFS= read -r line; do
    case $line in 'noah-hook-end '*) break ;; esac
    # The empty line before the end's may be the end of an unfinished one: it is held back.
    [ -z "$held" ] || printf '[%s] \n' "$1"
    held=
    if [ -z "$line" ]; then held=yes; continue; fi
    printf '[%s] %s\n' "$1" "$line"
    a=$b b=$c c=$d d=$e e=$line
  done
  [ "${line#* }" = 0 ] || for kept in "$a" "$b" "$c" "$d" "$e"; do
    # The kubelet takes 4096 bytes of a termination message.
    [ -z "$kept" ] || printf '%.400s\n' "$kept"
  done 2>/dev/null >> "$2"
}
