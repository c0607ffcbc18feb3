"""The log of a process of ours: one line for each message, whatever text from elsewhere stands in it.

A path, a pod's name or an API server's message may hold line ends, which would forge lines, and escape sequences, which
would steer the terminal of who reads the log. This is the only place where log messages become text.
"""

import logging
import sys
from typing import Any

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


def log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
