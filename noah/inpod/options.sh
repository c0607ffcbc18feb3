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
#  - It may run as root in folders of the app's user, who knows its arguments from /proc. No link of somebody else is
#    followed by chance: whoever can change a part of the way to FILE has to be FILE's owner too. What is written is made
#    in a folder that nobody else may enter, and reached from folders that are held open.
#  - What was held up on its way, since the host stood still or its disk did, is not done any more when somebody has looked
#    at the file since and has decided something else: a change says which look it follows, its turn.
set -u
umask 077
verb=$1

fail() { echo "error $(printf %s "$*" | tr '\n' ' ')"; exit 3; }

sum() { sha256sum 2>/dev/null < "$1"; }

# may_change: adds to others who may change what is in the folder that this shell is in, besides root and this user.
may_change() {
  set -- $(stat -c '%u %g %A' .)
  case $1 in 0|"$me") ;; *) case " $others " in *" $1 "*) ;; *) others="$others $1" ;; esac ;; esac
  # Where it is sticky, files of this user stay this user's. A group of its owner's own (as RHEL makes them) is its owner.
  case $3 in *t|*T) return ;; ????????w?) others="$others anybody" ;; esac
  case $3 in ?????w*) [ "$2" = 0 ] || [ "$2" = "$1" ] || others="$others group-$2" ;; esac
}

# walk FILE: goes into the folder that FILE is in, step by step, and sets name, what FILE is called there, and others: who
# may change a part of that way: as root only, who has more rights than they have.
walk() {
  me=$(id -u) others='' links=0 way=$1
  cd / || fail missing
  while :; do
    while case $way in /*) ;; *) false ;; esac; do way=${way#/}; done
    name=${way%%/*} rest=${way#"$name"}
    [ "$me" != 0 ] || may_change
    if [ -L "./$name" ]; then
      links=$((links + 1))
      [ $links -le 40 ] || fail missing
      to=$(readlink "./$name") || fail missing
      case $to in /*) cd / || fail missing ;; esac
      way=$to$rest
      continue
    fi
    case $rest in ''|/) break ;; esac
    cd -P "./$name" 2>/dev/null || fail missing
    way=$rest
  done
  [ -f "./$name" ] || fail missing
}

# only_theirs OWNER: 1 when somebody who could have put another file there does not own it anyway.
only_theirs() { [ -z "$others" ] || [ "$others" = " $1" ]; }

# hold: gives FILE a second name in a folder that nobody else may enter: from then on nobody can put another in its place.
# Sets like, its mode and owner.
hold() {
  read -r token < /proc/sys/kernel/random/uuid
  rm -rf ./".$name.noah-"*
  hidden=.$name.noah-$token
  mkdir "./$hidden" 2>/dev/null || fail write "no folder can be made beside it: Permission denied"
  trap 'rm -rf "./$hidden"' EXIT
  inside ln "../$name" held 2>/dev/null || inside cp -p "../$name" held || fail unreadable
  inside [ ! -L held ] && inside [ -f held ] || fail missing
  like=$(inside stat -c '%a %u:%g' held)
  owner=${like#* } owner=${owner%%:*}
  only_theirs "$owner" || fail swap
}

# inside COMMAND...: in the hidden folder, unless it was changed for another.
inside() { ( cd -P "./$hidden" && is_private . && "$@" ); }

# is_private FOLDER: nobody else may enter it.
is_private() {
  case $(stat -c '%u %a' "$1" 2>/dev/null) in "$me 700"|"$me 2700") ;; *) return 1 ;; esac
}

# notes: sets ours, the beginning of where FILE's turn and its restart are noted, in a folder of this user's.
notes() {
  folder=/dev/shm/.noah-$me
  [ "$me" != 0 ] || [ ! -w /run ] || folder=/run/noah-options
  mkdir "$folder" 2>/dev/null
  [ ! -L "$folder" ] && is_private "$folder" || fail turn
  ours=$(printf %s "$(pwd -P)/$name" | sha256sum)
  ours=$folder/${ours%% *}
}

# turn TURN
turn() { read -r now 2>/dev/null < "$ours.turn" && [ "$now" = "$1" ] || fail late; }

# show FILE
show() {
  like=$(stat -c '%s %a %u:%g' "$1")
  [ "${like%% *}" -le 65536 ] || fail long
  like=${like#* }
  echo "mode ${like%% *}"
  echo "owner ${like#* }"
  echo "content $(base64 < "$1" | tr -d '\n')"
}

# replace TURN
replace() {
  [ "$(inside sum held)" = "$was  -" ] || fail changed
  said=$(inside cp -p held new 2>&1) || fail write "$said"
  [ "$(inside stat -c '%a %u:%g' new)" = "$like" ] || fail owner
  said=$(inside fill 2>&1)
  # A full disk is not always reported: what was written is compared.
  [ "$(inside sum new)" = "$becomes  -" ] || fail write "$said"
  inside chmod "${like%% *}" new
  inside sync new 2>/dev/null || sync
  turn "$1"
  # -T: not into a folder that has its name by now.
  said=$(mv -fT "./$hidden/new" "./$name" 2>&1) || fail write "$said"
}
fill() { chmod u+w new && printf %s "$content" | base64 -d > new; }

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
    # Any user's: it may be a FIFO, or without an end.
    [ "$version" = - ] && [ -f "$one" ] && [ -r "$one" ] && [ "$(stat -L -c %s "$one")" -le 65536 ] || continue
    while IFS= read -r line; do
      case $line in JAVA_VERSION=*) version=${line#*\"} version=${version%%\"*} ;; esac
    done < "$one"
    case $version in ''|*[!0-9A-Za-z._+-]*) version=- ;; esac
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

# is_for_root: after walk; root does not run what another user may change.
is_for_root() { [ "$me" != 0 ] || { [ -z "$others" ] && [ "$(stat -c %u "./$name")" = 0 ]; }; }

began_in=$(pwd)
case $verb in
read)
  walk "$2"
  [ -r "./$name" ] || fail unreadable
  [ $# = 2 ] || { notes; echo "$3" 2>/dev/null > "$ours.turn" || fail turn; }
  if [ "$me" = 0 ] && [ -n "$others" ]; then hold; inside show held; else show "./$name"; fi || exit 3 ;;
replace)
  walk "$2"
  [ -r "./$name" ] || fail unreadable
  notes
  hold
  replace "$3" ;;
jvms)
  listens "$2"
  jvms "$2" ;;
jcmd)
  tool=$(readlink "/proc/$2/exe") tool=${tool%/java}/jcmd
  [ -x "$tool" ] && ( walk "$tool" && is_for_root ) > /dev/null || tool=jcmd
  said=$("$tool" "$2" VM.start_java_debugging 2>&1 < /dev/null) || fail jcmd "$said" ;;
listens)
  listens "$2" ;;
run)
  walk "$2"
  notes
  turn "$3"
  # The gateway may go away while it runs: what it then writes must not end it halfway.
  trap '' PIPE
  began $$ && echo "$$ $start" > "$ours.restart"
  cd "$began_in" || cd /
  exec sh -c "$4" < /dev/null ;;
runs)
  walk "$2"
  notes
  read -r pid then 2>/dev/null < "$ours.restart" && began "$pid" && [ "$start" = "$then" ] && echo runs ;;
esac
echo done
