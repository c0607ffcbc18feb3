"""How the command line fails: one sentence for people, one exit code by kind of failure for scripts."""

from enum import IntEnum

from noah.errors import BadSettings, NoahError


class ExitCode(IntEnum):
    UNEXPECTED = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    UNAVAILABLE = 5
    CANNOT_DEBUG = 6
    TIMEOUT = 7
    FORBIDDEN = 8


class TimeIsUp(NoahError):
    """It was not done in the time that --timeout gives it."""


_BY_STATUS = {
    400: ExitCode.USAGE,
    401: ExitCode.FORBIDDEN,
    403: ExitCode.FORBIDDEN,
    404: ExitCode.NOT_FOUND,
    409: ExitCode.CONFLICT,
    422: ExitCode.CANNOT_DEBUG,
    503: ExitCode.UNAVAILABLE,
}


def exit_code_of(error: NoahError) -> ExitCode:
    if isinstance(error, BadSettings):
        return ExitCode.USAGE
    if isinstance(error, TimeIsUp):
        return ExitCode.TIMEOUT
    return _BY_STATUS.get(error.http_status, ExitCode.UNEXPECTED)
