"""What a developer may be shown. Each error is one sentence that says what to do, and knows its HTTP status.

A class exists when somebody catches it or its status differs. Anything else that is raised is a bug.
"""

import re
from typing import ClassVar


class NoahError(Exception):
    """Something went wrong that can be said in one sentence."""

    http_status: ClassVar[int] = 500
    code = "unexpected"  # the heading in troubleshooting.md: of a class its name, "already-debugged"

    def __init_subclass__(cls) -> None:
        cls.code = re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()

    def __init__(self, sentence: str = "") -> None:
        super().__init__(sentence or (type(self).__doc__ or "").strip().splitlines()[0])

    @property
    def sentence(self) -> str:
        return str(self.args[0])


class BadInput(NoahError):
    """The request cannot be understood."""

    http_status = 400


class Unauthenticated(NoahError):
    """The gateway does not know who you are: log in."""

    http_status = 401


class Forbidden(NoahError):
    """You may not do this."""

    http_status = 403


class NotFound(NoahError):
    """It does not exist."""

    http_status = 404


class Conflict(NoahError):
    """It is not possible in the present state."""

    http_status = 409


class AlreadyDebugged(Conflict):
    """Somebody is already debugging this target."""

    def __init__(self, *, target: str, holder: str, session_id: str) -> None:
        super().__init__(f"{holder} is already debugging {target} (session {session_id}): ask them to end it.")
        self.holder = holder
        self.session_id = session_id


class LostSession(Conflict):
    """Another gateway runs this session by now."""


class TooMany(NoahError):
    """You have too much of this at once."""

    http_status = 429


class PortsUsedUp(NoahError):
    """All debug ports of the gateway are in use: end a session, or widen debug_ports in the configuration."""

    http_status = 503


class Unavailable(NoahError):
    """Something that the gateway depends on does not answer."""

    http_status = 503


class CannotDebug(NoahError):
    """This target cannot be debugged as it is."""

    http_status = 422


class RolledBack(CannotDebug):
    """Everything that was tried has been taken back; it is not tried again for this session."""


class NeedsRestart(Conflict):
    """The app has to be restarted before it can be debugged: confirm that."""


class BadSettings(NoahError):
    """The configuration is wrong."""
