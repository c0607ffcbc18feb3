# The sidecar noah-tools: answers a kubelet's httpGet for an app whose image has no shell, as liveness.sh would in it.
#
#   PORT ANSWER LIVENESS   where it listens; answer.sh; liveness.sh
#
# One process for each request. The sockets that it sees are the pod's, /dev/shm is shared by all of its containers.
# Process 1 is socat, which reaps.
set -u
NOAH_ANSWER=$2 NOAH_LIVENESS=$3
export NOAH_ANSWER NOAH_LIVENESS
case ${NOAH_POD_IP:-} in *:*) kind=TCP6-LISTEN ;; *) kind=TCP4-LISTEN ;; esac
exec socat -lp noah-tools -T 60 "$kind:$1,fork,reuseaddr,max-children=8" 'SYSTEM:exec sh -c \"$NOAH_ANSWER\" noah-answer'
