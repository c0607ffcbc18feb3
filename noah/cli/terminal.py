"""The one way to the terminal: everything that a command prints for people passes through this file.

Text from a gateway may come from a pod's log, a cluster's objects or other people. Only printable characters, line
breaks and tabs get through, and with `echo_styled` our own colours.
"""

import json
import re
from typing import Any

import click

from noah.core.printable import printable

GOOD, CARE, BAD, QUIET = "green", "yellow", "red", "bright_black"

_OUR_STYLES = re.compile("(\x1b\\[(?:[012]|[39][0-7])m)")  # what click.style writes for bold, dim and colours


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    click.echo(printable(text, keep="\n\t"), err=err, nl=nl)


def echo_styled(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print *text*, of which each part from elsewhere has passed `printable` or `styled`: no style in it is theirs."""
    parts = _OUR_STYLES.split(text)
    parts[::2] = [printable(part, keep="\n\t") for part in parts[::2]]
    click.echo("".join(parts), err=err, nl=nl)


def styled(text: str, *, fg: str | None = None, bold: bool | None = None, dim: bool | None = None) -> str:
    """Return one line of *text* from anywhere, in a style of ours."""
    return click.style(printable(text, keep="\t"), fg=fg, bold=bold, dim=dim)


def json_text(data: Any, *, indent: int | None = None) -> str:
    """Return *data* as JSON in which what is not printable is escaped, so that nothing is lost or acted upon."""
    text = json.dumps(data, indent=indent, ensure_ascii=False)
    return text if text.isprintable() else _NOT_PRINTABLE.sub(_escaped, text)


_NOT_PRINTABLE = re.compile(r"[^ -~\n]")


def _escaped(character: re.Match[str]) -> str:
    return character[0] if character[0].isprintable() else json.dumps(character[0])[1:-1]
