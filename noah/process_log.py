"""The log of a process of ours: one line for each message, whatever text from elsewhere stands in it.

A path, a pod's name or an API server's message may hold line ends, which would forge lines, and escape sequences, which
would steer the terminal of who reads the log. This is the only place where log messages become text.
"""

import logging
import sys
from typing import Any

from aiohttp.http_exceptions import HttpProcessingError
from typing_extensions import override

from noah.core.printable import printable

FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


class OneLine(logging.Formatter):
    @override
    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))

    @override
    def formatException(self, ei: Any) -> str:
        return printable(super().formatException(ei), keep="\n\t")

    @override
    def formatStack(self, stack_info: str) -> str:
        return printable(stack_info, keep="\n\t")


class Malformed(logging.Filter):
    """Makes one line of what a server logs with a traceback when a client sends what is not HTTP."""

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            record.msg, record.args = f"{record.getMessage()}: {error.message[:200]}", ()
            record.exc_info = None
        return True


def log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(FORMAT))
    logging.getLogger("aiohttp.server").addFilter(Malformed())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
