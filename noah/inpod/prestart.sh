# preStart: runs the code's hook, then becomes the app. A container's command: sh -c HOOK+THIS noah-prestart
#
#   SCRIPT    the hook; where there is none, nothing is done
#   SECONDS   how long it may take
#   SHARED    the directory that the preOnline sidecar reads; it need not be there
#   MESSAGE   the container's terminationMessagePath
#   COMMAND...
#
# Rules that must stay true:
#  - The app is exec'ed: PID 1, signals, exit code, environment, directory and user are its own.
#  - A hook that fails or is late ends the container with its exit code, and its last lines are the termination message.
set -u
script=$1 seconds=$2 shared=$3 message=$4
shift 4

# A process that only now begins is not online, whatever the one before it was.
rm -f "$shared/healthcheck.html" 2>/dev/null
if [ -d "$shared" ] && [ -w "$shared" ]; then
  read -r begun _ < /proc/uptime
  (printf '%s\n' "$begun" > "$shared/.noah-start") 2>/dev/null
fi

if usable "$script"; then
  code=126
  if [ -z "$why" ]; then
    # A signal before the app is there leaves nothing to wind up.
    trap 'leave TERM 143' TERM
    trap 'leave INT 130' INT
    hook preStart "$script" "$seconds" "$message"
    code=$?
    trap - TERM INT
  else
    (printf 'noah: preStart: %s\n' "$why" > "$message") 2>/dev/null
  fi
  if [ $code != 0 ]; then
    printf 'noah: preStart: %s; the app is not started\n' "$why"
    exit $code
  fi
fi
exec "$@"
