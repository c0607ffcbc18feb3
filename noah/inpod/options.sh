# What the gateway does on a host, over SSH, beside forwarder.sh: reads and replaces an options file, tells about JVMs.
# Runs as `sh -s -- VERB ...` with this on its stdin, before it lines that set what is too long for a command line.
#
#   read FILE [TURN]         `mode 640`, `owner 1000:1000`, `content BASE64`; begins a turn
#   replace FILE TURN        by $content (base64), if it is what $was says; $becomes says what it is then (both SHA-256)
#   jvms PORT                `jvm PID VERSION|- onjcmd|-` for each that can be seen; onjcmd: its agent for PORT waits for
#                            jcmd, or did; and `listens` when a program has that port
#   jcmd PID                 has the agent of that JVM listen
#   listens PORT             `listens` when a program has that port
#   run FILE TURN COMMAND    with its own output and exit code
#   runs FILE                `runs` while that `run` has not ended, by whichever gateway it was begun
#
# The last line is `done`, or `error WORD...`.
#
# Rules that must stay true:
#  - FILE is whole at any time: as it was, or as it becomes. What goes wrong before that leaves it untouched.
#  - Its mode, its owner, and where it is a link the link, stay.
#  - What was held up on its way, since the host stood still or its disk did, is not done any more when somebody has looked
#    at the file since and has decided something else: a change says which look it follows, its turn.
set -u
umask 077
verb=$1

fail() { echo "error $(printf %s "$*" | tr '\n' ' ')"; exit 3; }

sum() { sha256sum 2>/dev/null < "$1"; }

# resolve FILE: sets file, where a link leads to, and ours, where its turn and its restart are noted. Those are of this user:
# in /dev/shm not even root writes to a file of somebody else.
resolve() {
  file=$(readlink -f "$1") && [ -f "$file" ] || fail missing
  ours=$(printf %s "$file" | sha256sum)
  ours=/dev/shm/.noah-$(id -u)-${ours%% *}
}

# turn TURN
turn() { read -r now 2>/dev/null < "$ours.turn" && [ "$now" = "$1" ] || fail late; }

# replace TURN
replace() {
  new=$file.noah-new-$1
  trap 'rm -f "$new"' EXIT
  rm -f "$file".noah-new-*
  [ "$(sum "$file")" = "$was  -" ] || fail changed
  like=$(stat -c '%a %u:%g' "$file")
  said=$(cp -p "$file" "$new" 2>&1) || fail write "$said"
  [ "$(stat -c '%a %u:%g' "$new")" = "$like" ] || fail owner
  said=$( { chmod u+w "$new" && printf %s "$content" | base64 -d > "$new"; } 2>&1 )
  # A full disk is not always reported: what was written is compared.
  [ "$(sum "$new")" = "$becomes  -" ] || fail write "$said"
  chmod "${like%% *}" "$new"
  sync "$new" 2>/dev/null || sync
  turn "$1"
  said=$(mv -f "$new" "$file" 2>&1) || fail write "$said"
}

# began PID: sets start, its start time; 1 when it is gone or a zombie. The command in /proc/PID/stat may contain brackets.
began() {
  text=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  set -- ${text##*\)}
  start=${20}
  [ "$1" != Z ]
}

# release: sets version from the `release` file of the JDK or JRE in $home.
release() {
  version=-
  for one in "$home/release" "${home%/*}/release"; do
    [ "$version" = - ] && [ -r "$one" ] || continue
    while IFS= read -r line; do
      case $line in JAVA_VERSION=*) version=${line#*\"} version=${version%%\"*} ;; esac
    done < "$one"
  done
}

jvms() {
  for p in /proc/[0-9]*; do
    exe=$(readlink "$p/exe" 2>/dev/null) || continue
    case $exe in */bin/java) ;; *) continue ;; esac
    home=${exe%/bin/java}
    release
    waits=-
    options=$(tr '\0' ' ' < "$p/cmdline" 2>/dev/null; tr '\0' ' ' < "$p/environ" 2>/dev/null)
    case $options in *onjcmd=y*) case $options, in *[:=]"$1"[!0-9]*) waits=onjcmd ;; esac ;; esac
    echo "jvm ${p#/proc/} $version $waits"
  done
}

listens() {
  hex=$(printf ':%04X' "$1")
  for table in /proc/net/tcp /proc/net/tcp6; do
    [ -r $table ] || continue
    while read -r _ local _ state _; do
      case $local$state in *"$hex"0A) echo listens ;; esac
    done < $table
  done
}

case $verb in
read|replace)
  resolve "$2"
  [ -r "$file" ] || fail unreadable
  [ "$verb" = read ] || { replace "$3"; echo done; exit 0; }
  [ $# = 2 ] || echo "$3" 2>/dev/null > "$ours.turn" || fail turn
  [ "$(wc -c < "$file")" -le 65536 ] || fail long
  echo "mode $(stat -c %a "$file")"
  echo "owner $(stat -c %u:%g "$file")"
  echo "content $(base64 < "$file" | tr -d '\n')" ;;
jvms)
  listens "$2"
  jvms "$2" ;;
jcmd)
  tool=$(readlink "/proc/$2/exe") tool=${tool%/java}/jcmd
  [ -x "$tool" ] || tool=jcmd
  said=$("$tool" "$2" VM.start_java_debugging 2>&1 < /dev/null) || fail jcmd "$said" ;;
listens)
  listens "$2" ;;
run)
  resolve "$2"
  turn "$3"
  # The gateway may go away while it runs: what it then writes must not end it halfway.
  trap '' PIPE
  began $$ && echo "$$ $start" > "$ours.restart"
  exec sh -c "$4" < /dev/null ;;
runs)
  resolve "$2"
  read -r pid then 2>/dev/null < "$ours.restart" && began "$pid" && [ "$start" = "$then" ] && echo runs ;;
esac
echo done
