# One request and its answer, on stdin and stdout: GET /noah/liveness or /noah/startup. 200 if the app is healthy or spared.
#
# $NOAH_LIVENESS_ASKS and $NOAH_STARTUP_ASKS hold the arguments of liveness.sh, one a line. For tcp:PORT in the place of a
# URL, the app is healthy if somebody listens at that port. What makes an app unhealthy is printed to the container's log.
set -u
nl='
'
read -r method path _ || exit
while read -r header; do
  case $header in ''|?) break ;; esac
done

# listens PORT: somebody does, without connecting to it.
listens() {
  hex=$(printf ':%04X' "$1")
  while read -r _ local _ st _; do
    case $local$st in *"$hex"0A) return 0 ;; esac
  done <<ROWS
$(grep -h "$hex " /proc/net/tcp /proc/net/tcp6 2>/dev/null)
ROWS
  return 1
}

case $path in
/noah/liveness) asks=${NOAH_LIVENESS_ASKS:-} ;;
/noah/startup) asks=${NOAH_STARTUP_ASKS:-} ;;
*) asks='' ;;
esac
set -f
IFS=$nl
set -- $asks
unset IFS
set +f
status='503 Service Unavailable'
case ${1:-} in
'') status='404 Not Found' said='noah: there is no such probe' ;;
tcp:*)
  port=${1#tcp:}
  shift
  if said=$(sh -c "$NOAH_LIVENESS" noah-liveness - "$@") || listens "$port"; then status='200 OK'
  else said="$said, and nothing listens on port $port"
  fi ;;
*) ! said=$(sh -c "$NOAH_LIVENESS" noah-liveness "$@") || status='200 OK' ;;
esac
case $status in 200*) ;; *) printf '%s\n' "$said" >&2 ;; esac
printf 'HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %s\r\nConnection: close\r\n\r\n%s\n' \
  "$status" $((${#said} + 1)) "$said"
exit 0
