"""`noah inject` and `noah eject`: manifests in, manifests out; no gateway is asked."""

import difflib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from noah.cli.exit_codes import ExitCode
from noah.cli.terminal import BAD, CARE, GOOD, echo_styled, styled
from noah.errors import BadInput

if TYPE_CHECKING:
    from noah.cli.manifests.manifests import Changed

SUFFIXES = (".yaml", ".yml", ".json")  # of the files that kubectl reads in a folder

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _options(command: _Command) -> _Command:
    for option in (
        click.option("--strict", is_flag=True, help="Print nothing if one document cannot be read, and exit with 2."),
        click.option("--diff", is_flag=True, help="Print what it changes instead of the result."),
        click.option(
            *("-f", "--file", "files"),
            metavar="FILE|DIR|-",
            required=True,
            multiple=True,
            help="The manifests, or a folder of them; - reads stdin; repeatable.",
        ),
    ):
        command = option(command)
    return command


@click.command()
@_options
@click.option(
    "--tools-image",
    metavar="IMAGE",
    envvar="NOAH_TOOLS_IMAGE",
    help="With sh, socat and curl: for a sidecar where the app's image has no shell.",
)
def inject(*, files: tuple[str, ...], diff: bool, strict: bool, tools_image: str | None) -> int:
    """Put the debug agent, its probe and the hooks into manifests.

    \b
      noah inject -f shop.yaml | kubectl apply -f -
      kustomize build . | noah inject -f - --diff

    What is left as it is, and why, goes to stderr; a document that cannot be read, too. Annotations of the pod choose
    what is put in: debug.noah/agent, liveness, prestart, preonline, checkurl, container, command.
    """
    from noah.cli.manifests import manifests

    return _change(files, partial(manifests.inject, tools_image=tools_image), diff=diff, strict=strict)


@click.command()
@_options
def eject(*, files: tuple[str, ...], diff: bool, strict: bool) -> int:
    """Take out what inject has put in, and restore exactly what was there before."""
    from noah.cli.manifests import manifests

    return _change(files, manifests.eject, diff=diff, strict=strict)


def _change(names: tuple[str, ...], change: "Callable[[str], Changed]", *, diff: bool, strict: bool) -> int:
    texts = [(name, _read(name)) for given in names for name in _files(given)]
    changed = [(name, text, _changed(name, text, change, alone=len(texts) == 1)) for name, text in texts]
    for _, _, result in changed:
        for note in (*result.notes, *result.refused):
            echo_styled(styled(note, fg=CARE if note in result.notes else BAD), err=True)
    if strict and any(result.refused for _, _, result in changed):
        return ExitCode.USAGE
    for name, text, result in changed:
        if diff:
            _print_diff("stdin" if name == "-" else name, text, result.text)
        else:
            _print_manifest(result.text, alone=len(changed) == 1)
    return 0


def _files(given: str) -> Iterator[str]:
    """Yield the file that is given, or the manifests in a folder, not below it, as kubectl does."""
    if given == "-" or not Path(given).is_dir():
        yield given
        return
    found = sorted(str(file) for file in Path(given).iterdir() if file.suffix in SUFFIXES and file.is_file())
    if not found:
        raise BadInput(f"{given} has no manifests: a manifest's name ends in {', '.join(SUFFIXES)}.")
    yield from found


def _read(name: str) -> str:
    """Return the text with its line ends as they are."""
    try:
        return (sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()).decode()
    except OSError as e:
        raise BadInput(f"{name} cannot be read: {e.strerror}.") from None
    except UnicodeDecodeError:
        raise BadInput(f"{name} is not text in UTF-8.") from None


def _changed(name: str, text: str, change: "Callable[[str], Changed]", *, alone: bool) -> "Changed":
    try:
        result = change(text)
    except BadInput as e:
        raise BadInput(e.sentence if alone else f"{name}: {e.sentence}") from None
    if alone:
        return result
    from dataclasses import replace

    return replace(result, refused=tuple(f"{name}: {sentence}" for sentence in result.refused))


def _print_manifest(text: str, *, alone: bool) -> None:
    """Print the bytes as they are; several files become one stream of documents."""
    if not alone:
        text = text if text.startswith("---") else "---\n" + text
        text = text if text.endswith("\n") else text + "\n"
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()


def _print_diff(name: str, old: str, new: str) -> None:
    for line in difflib.unified_diff(old.splitlines(), new.splitlines(), name, name, lineterm=""):
        colour = {"+": GOOD, "-": BAD}.get(line[:1])
        echo_styled(styled(line, fg=colour))
