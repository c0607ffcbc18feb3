"""The kinds of events that the feed carries. Who publishes, the API, the page and the command line use this table."""

from enum import StrEnum


class EventKind(StrEnum):
    SESSION = "session"  # its status, or whatever else of it people see, has changed
    STEP = "step"  # one thing that happened to a session, in words
    WARNING = "warning"  # the VM will be resumed, or a release replaces a pod that is being debugged
    ASKED = "asked"  # somebody asks the session's owner to resume
    ATTACHED = "attached"  # a debugger has the JVM
    DETACHED = "detached"  # it has gone
    REFUSED = "refused"  # a connection to the session's port was turned away
    EXIT_REFUSED = "exit_refused"  # the debugger asked the JVM to exit
    PACKET_REFUSED = "packet_refused"  # the debugger sent a packet that is too long
    RELOAD = "reload"  # events were missed: read everything again
