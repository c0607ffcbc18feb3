"""How the command line fails: one sentence for people, one exit code by kind of failure for scripts."""

from enum import IntEnum

import click

from noah.errors import BadSettings, NoahError


class Code(IntEnum):
    UNEXPECTED = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    UNAVAILABLE = 5
    CANNOT_DEBUG = 6
    TIMEOUT = 7
    FORBIDDEN = 8


class Failure(click.ClickException):
    def __init__(self, code: Code, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code

    @property
    def exit_code(self) -> Code:  # type: ignore[override]  # click declares a class variable
        return self.code


def code_of(http_status: int) -> Code:
    match http_status:
        case 400 | 405 | 413:
            return Code.USAGE
        case 401 | 403:
            return Code.FORBIDDEN
        case 404:
            return Code.NOT_FOUND
        case 409:
            return Code.CONFLICT
        case 422:
            return Code.CANNOT_DEBUG
        case 429 | 502 | 503 | 504:
            return Code.UNAVAILABLE
        case _:
            return Code.UNEXPECTED


def exit_code_of(error: NoahError) -> Code:
    """For errors that are raised on this side of the HTTP API."""
    return Code.USAGE if isinstance(error, BadSettings) else code_of(error.http_status)
