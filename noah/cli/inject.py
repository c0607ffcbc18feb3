"""`noah inject` and `noah eject`: manifests in, manifests out; no gateway is asked."""

import difflib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from noah.cli.terminal import BAD, CARE, GOOD, echo, styled
from noah.errors import BadInput

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _options(command: _Command) -> _Command:
    file = click.option("-f", "--file", metavar="FILE|-", required=True, help="The manifests; - is what is piped in.")
    diff = click.option("--diff", is_flag=True, help="Print what it changes instead of the result.")
    return file(diff(command))


@click.command()
@_options
def inject(*, file: str, diff: bool) -> None:
    """Put the debug agent, its probe and the hooks into manifests.

    \b
      noah inject -f shop.yaml | kubectl apply -f -
      kustomize build . | noah inject -f - --diff

    What is left as it is, and why, goes to stderr. Annotations of the pod choose what is put in: debug.noah/agent,
    liveness, prestart, preonline, checkurl, container, command.
    """
    from noah.cli import manifests

    text = _read(file)
    new, notes = manifests.inject(text)
    for note in notes:
        echo(styled(note, fg=CARE), err=True)
    _print(file, text, new, diff=diff)


@click.command()
@_options
def eject(*, file: str, diff: bool) -> None:
    """Take out what inject has put in: exactly what was there before."""
    from noah.cli import manifests

    text = _read(file)
    _print(file, text, manifests.eject(text), diff=diff)


def _read(file: str) -> str:
    """Line ends as they are."""
    try:
        return (sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()).decode()
    except OSError as e:
        raise BadInput(f"{file} cannot be read: {e.strerror}.") from None
    except UnicodeDecodeError:
        raise BadInput(f"{file} is not text in UTF-8.") from None


def _print(file: str, old: str, new: str, *, diff: bool) -> None:
    if not diff:
        sys.stdout.buffer.write(new.encode())
        sys.stdout.buffer.flush()
        return
    name = "stdin" if file == "-" else file
    for line in difflib.unified_diff(old.splitlines(), new.splitlines(), name, name, lineterm=""):
        colour = {"+": GOOD, "-": BAD}.get(line[:1])
        echo(styled(line, fg=colour) if colour else line)
