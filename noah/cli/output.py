"""The forms of output: tables like kubectl's, JSON, YAML, names.

Colour and width are the terminal's; a pipe gets neither.
"""

import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import click

from noah.cli.manifests.writing import to_yaml
from noah.cli.terminal import echo, echo_styled, json_text, styled
from noah.client.gateway_client import Json
from noah.core.printable import printable

_Command = TypeVar("_Command", bound=Callable[..., Any])

GAP = "   "  # kubectl's


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. Put free text last: a terminal's edge cuts it first."""

    header: str
    value: Callable[[Json], object]
    colours: Mapping[str, str] = field(default_factory=dict)  # of a cell's text


def output_option(command: _Command) -> _Command:
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json", "yaml", "name"]),
        help="How to print it; names are one per line.",
    )(command)


def print_list(
    answer: Json,
    output: str | None,
    columns: Sequence[Column],
    *,
    name: Callable[[Json], str],
    nothing: str | Callable[[], str],
) -> None:
    """Print the items of *answer*; *nothing* is, or returns, what a person reads when there are none."""
    if output in ("json", "yaml"):
        print_data(answer, output)
    elif output == "name":
        for item in answer["items"]:
            echo(name(item))
    elif answer["items"]:
        echo_styled("\n".join(table(answer["items"], columns, width=_width())))
    else:
        echo(nothing if isinstance(nothing, str) else nothing(), err=True)


def print_one(
    item: Json, output: str | None, columns: Sequence[Column], *, name: Callable[[Json], str], text: Callable[[], str]
) -> None:
    """Print *item*; *text* returns what a person reads when no -o is given, printable and with our styles."""
    if output is None:
        echo_styled(text())
    elif output in ("json", "yaml"):
        print_data(item, output)
    else:
        print_list({"items": [item]}, output, columns, name=name, nothing="")


def print_data(data: Any, output: str) -> None:
    echo(to_yaml(data) if output == "yaml" else json_text(data, indent=2), nl=output != "yaml")


def table(items: Iterable[Json], columns: Sequence[Column], *, width: int | None) -> list[str]:
    """Return the lines. *width* is the terminal's; None means as wide as the cells."""
    rows = [[_cell(column.value(item)) for column in columns] for item in items]
    widths = [max(len(cell) for cell in cells) for cells in zip([c.header for c in columns], *rows, strict=True)]
    lines = [_line([column.header for column in columns], widths, width)]
    for row in rows:
        colours = [column.colours.get(cell.partition(" ")[0]) for column, cell in zip(columns, row, strict=True)]
        lines.append(_line(row, widths, width, colours))
    return lines


def _line(cells: Sequence[str], widths: Sequence[int], width: int | None, colours: Sequence[str | None] = ()) -> str:
    plain = GAP.join(cell.ljust(w) for cell, w in zip(cells, widths, strict=True)).rstrip()
    if width is not None and len(plain) > width:
        plain = plain[: width - 1] + "…"
    # Colour goes on last: its escape sequences have no width. From the right, so that the positions stay right.
    starts = [sum(widths[:i]) + len(GAP) * i for i in range(len(cells))]
    for start, cell, colour in reversed(list(zip(starts, cells, colours, strict=False))):
        if colour and cell:
            part = plain[start : start + len(cell)]
            plain = plain[:start] + styled(part, fg=colour) + plain[start + len(cell) :]
    return plain


def _cell(value: object) -> str:
    return "-" if value is None or value == "" else printable(str(value))


def _width() -> int | None:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
