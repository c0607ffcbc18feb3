# A release's hook, run in the app's own image. Not a script by itself: it stands before prestart.sh and preonline.sh.
# POSIX sh: dash, busybox, bash. A comment has a line of its own: those lines are left out of the pod's manifest; and no
# `$` twice in a row, and no name in `$()` with nothing else: the kubelet expands those in a container's command.
dir=${NOAH_REPORTS:-/dev/shm}
running='' timer='' marker=''
nl='
'

# usable FILE: 1 when there is no hook; sets why when it cannot be run.
usable() {
  why=
  [ -e "$1" ] || return 1
  if [ ! -f "$1" ]; then why="$1 is not a file"
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
    # Opening one end of a pipe waits for the other. Only the marker keeps the end that is read: when it is killed, for
    # want of memory, nobody must wait for it.
    exec 3<> "$pipe" 4> "$pipe"
    rm -f "$pipe"
    marked "$mark" "$last" <&3 3>&- 4>&- 2>/dev/null & marker=$!
    exec 3>&-
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
  if [ $code = 127 ]; then why="$why: its first line or a command in it names what the image does not have"; fi
  if [ -n "$late" ]; then code=124 why="$2 did not end within $3 s"; fi
  if [ -n "$marker" ]; then
    [ $code = 0 ] || printf 'noah: %s %s\n' "$mark" "$why" 2>/dev/null > "$last"
    end_marker $code
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

# end_marker CODE: what the hook printed is in the pipe before this line is.
end_marker() { (printf '\nnoah-hook-end %s\n' "$1" >&4) 2>/dev/null; }

# leave SIGNAL CODE: ends all that the hook is, and this.
leave() {
  end_hook "$1"
  [ -z "$timer" ] || kill "$timer" 2>/dev/null
  [ -z "$marker" ] || end_marker 0
  exit "$2"
}

# marked MARK LAST: copies stdin until the line that tells the end, each line with the mark. In blocks: reading lines costs
# a shell a system call for each byte, and memory for as long as there is no line's end.
marked() {
  trap '' TERM
  # Bytes, of which a block may end in the middle of a character.
  LC_ALL=C IFS=$nl
  export LC_ALL
  set -f
  rest='' open='' kept='' over=''
  if command -v dd && command -v sed; then copy=a_block; else copy=a_line; fi > /dev/null
  while [ -z "$over" ] && $copy; do
    look_for_the_end
    [ -z "$body" ] || show "$1"
  done
  case $over in failed) last_lines "$kept" >> "$2" ;; esac
}

# a_block: sets text to what there is to read, up to what a pipe holds.
a_block() {
  text=$(dd bs=65536 count=1 && echo .)
  [ -n "$text" ] && text=$rest${text%.}
}

a_line() { IFS= read -r text || return; text=$rest$text$nl; }

# look_for_the_end: sets body to the part of text that can be shown, and rest to what the end's line may begin with. Nothing
# here looks at a block more than once: `#` and `##` with more than a character or two would take a minute for each.
look_for_the_end() {
  # So that each line that begins here has a line's end before it.
  [ -n "$open" ] || text=$nl$text
  rest=
  case $text in *"${nl}noah-hook-end "[0-9]*"$nl"*)
    case $text in *"${nl}noah-hook-end 0$nl"*) over=well ;; *) over=failed ;; esac
  esac
  if [ -n "$over" ]; then
    body=${text%%"${nl}noah-hook-end "*}
    # The line that has no end gets one; where there is none, this one is the end line's own.
    case $open$body in ''|*"$nl") ;; *) body=$body$nl ;; esac
  else
    body=${text%"$nl"*}
    if [ $((${#text} - ${#body})) -gt 24 ] || [ "$body" = "$text" ]; then body=$text
    else
      rest=${text##*"$nl"}
      case $body in *"$nl") rest=$nl$rest ;; *) body=$body$nl ;; esac
    fi
  fi
  [ -n "$open" ] || body=${body#"$nl"}
}

# show MARK: body, of which the first line may be the rest of one that has the mark.
show() {
  if [ $copy = a_line ]; then
    # One that is empty has been held back.
    case $body in "$nl"?*) printf '[%s] \n' "$1"; body=${body#"$nl"} ;; esac
    printf '[%s] %s' "$1" "$body"
  else printf %s "$body" | sed "${open:+1!}s/^/[$1] /"
  fi
  case $body in *"$nl") open= ;; *) open=yes ;; esac
  kept=$kept$body
  if [ ${#kept} -gt 8192 ]; then
    kept=$(last_lines "$kept")
    [ -n "$open" ] || kept=$kept$nl
  fi
}

# last_lines TEXT: prints them; the kubelet takes 4096 bytes of a termination message.
last_lines() {
  set -- $1
  [ $# -le 5 ] || shift $(($# - 5))
  [ $# = 0 ] || printf '%.400s\n' "$@"
}
