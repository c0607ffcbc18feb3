"""What inpod/forwarder.sh found inside a target, as what a look shows. The same for pods, hosts and this machine."""

from noah.core.forwarder import Agent, Answer
from noah.core.session.session import Presence
from noah.errors import CannotDebug, Unavailable
from noah.targets.base import Observation

# The agent listens before main() runs; a JVM as old as this that does not listen will not.
AGENT_COMES_WITHIN = 10  # seconds
# An entrypoint may fetch and unpack before it starts java.
JAVA_COMES_WITHIN = 60  # seconds

FLAG = "-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,address=127.0.0.1:{port},quiet=y"


def observed(answer: Answer, *, where: str, jdwp_port: int) -> Observation:
    """Return what the answer shows.

    Raises Unavailable when it was cut short, CannotDebug, with the one thing to do, when waiting would not help.
    """
    check(answer, where=where)
    if answer.java is None and answer.clock is not None:  # from beside, where only the pod's sockets are seen
        if answer.container_age >= JAVA_COMES_WITHIN:
            raise CannotDebug(
                f"Nothing in the pod of {where} listens for a debugger on port {jdwp_port}: "
                f"start its JVM with {FLAG.format(port=jdwp_port)} (in JAVA_TOOL_OPTIONS, for example)."
            )
        reason = f"The JVM in {where} does not listen for a debugger yet."
        return Observation(presence=Presence.NOT_READY, reason=reason)
    if answer.java is None:
        if answer.container_age >= JAVA_COMES_WITHIN:
            raise CannotDebug(f"No Java process runs in {where}: there is nothing to debug.")
        return Observation(presence=Presence.NOT_READY, reason=f"No Java process runs in {where} yet.")
    if answer.agent is Agent.NONE:
        if answer.java_age >= AGENT_COMES_WITHIN:
            raise CannotDebug(
                f"The JVM in {where} does not listen for a debugger on port {jdwp_port}: "
                f"start it with {FLAG.format(port=jdwp_port)} (in JAVA_TOOL_OPTIONS, for example)."
            )
        return Observation(
            presence=Presence.NOT_READY, reason=f"The JVM in {where} does not listen for a debugger yet."
        )
    return Observation(
        presence=Presence.READY,
        taken=answer.agent is Agent.TAKEN,
        forwarder_alive=answer.forwarder_port is not None,
    )


def check(answer: Answer, *, where: str) -> None:
    """Raise what the script could not do."""
    match (answer.error or "").split():
        case ["report"]:
            raise CannotDebug(f"The report for the liveness probe cannot be written in {where}: is its /dev/shm full?")
        case ["port"]:
            raise CannotDebug(f"No free port for the forwarder in {where}: all that were tried are in use.")
        case ["socat"]:
            raise Unavailable(f"socat does not start in {where}.")
        case ["left", *pids]:
            raise Unavailable(f"Processes {', '.join(pids)} in {where} do not end.")
        case [word, *_]:
            raise Unavailable(f"The forwarder in {where} failed: {word}.")
    if not answer.complete:
        raise Unavailable(f"The answer from inside {where} was cut short.")
