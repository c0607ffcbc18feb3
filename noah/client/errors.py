"""The errors that a request to a gateway ends with: those of noah.errors, chosen by the HTTP status."""

from noah.errors import BadInput, CannotDebug, Conflict, Forbidden, NoahError, NotFound, Unauthenticated, Unavailable


class NotAGateway(NoahError):
    """Something answers at that address, but not as a Noah gateway does: is NOAH_URL right?"""


class Away(Unavailable):
    """The gateway may be back in a moment: a command that waits for something can go on waiting."""

    def __init__(self, sentence: str, reason: str) -> None:
        super().__init__(sentence)
        self.reason = reason


def error_of(status: int, sentence: str) -> NoahError:
    """Return the error that an HTTP status stands for."""
    match status:
        case 400 | 405 | 413:
            return BadInput(sentence)
        case 401:
            return Unauthenticated(sentence)
        case 403:
            return Forbidden(sentence)
        case 404:
            return NotFound(sentence)
        case 409:
            return Conflict(sentence)
        case 422:
            return CannotDebug(sentence)
        case 429 | 502 | 503 | 504:
            return Away(sentence, f"HTTP {status}")
        case _:
            return NoahError(sentence)
