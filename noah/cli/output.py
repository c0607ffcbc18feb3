"""What is printed: tables like kubectl's, JSON, YAML, names. Colour and width are the terminal's; a pipe gets neither.

Text from a gateway may come from a cluster's objects: control characters in it are shown, never sent to a terminal.
"""

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from noah.client.gateway import Json

_Command = TypeVar("_Command", bound=Callable[..., Any])

GAP = "   "  # kubectl's

GOOD, CARE, BAD, QUIET = "green", "yellow", "red", "bright_black"


@dataclass(frozen=True, slots=True)
class Column:
    """A free text belongs last: a terminal's edge cuts it first."""

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
    answer: Json, output: str | None, columns: Sequence[Column], *, name: Callable[[Json], str], nothing: str
) -> None:
    if output in ("json", "yaml"):
        print_data(answer, output)
    elif output == "name":
        for item in answer["items"]:
            click.echo(clean(name(item)))
    elif answer["items"]:
        click.echo("\n".join(table(answer["items"], columns, width=_width())))
    else:
        click.echo(nothing, err=True)


def print_one(
    item: Json, output: str | None, columns: Sequence[Column], *, name: Callable[[Json], str], text: Callable[[], str]
) -> None:
    """*text* is what a person reads when no -o is given."""
    if output is None:
        click.echo(text())
    elif output in ("json", "yaml"):
        print_data(item, output)
    else:
        print_list({"items": [item]}, output, columns, name=name, nothing="")


def print_data(data: Any, output: str) -> None:
    click.echo(
        to_yaml(data) if output == "yaml" else json.dumps(data, indent=2, ensure_ascii=False), nl=output != "yaml"
    )


def table(items: Iterable[Json], columns: Sequence[Column], *, width: int | None) -> list[str]:
    """The lines. *width*: of the terminal; None: as wide as need be."""
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
            plain = plain[:start] + click.style(part, fg=colour) + plain[start + len(cell) :]
    return plain


def _cell(value: object) -> str:
    return "-" if value is None or value == "" else clean(str(value))


def clean(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)


def _width() -> int | None:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def to_yaml(data: Any) -> str:
    from io import StringIO

    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    text = StringIO()
    yaml.dump(_for_yaml(data), text)
    return text.getvalue()


def _for_yaml(data: Any) -> Any:
    from ruamel.yaml.scalarstring import LiteralScalarString, SingleQuotedScalarString

    match data:
        case dict():
            return {_for_yaml(key): _for_yaml(value) for key, value in data.items()}
        case list() | tuple():
            return [_for_yaml(value) for value in data]
        case str() if "\n" in data:
            return LiteralScalarString(data)
        case str() if data.lower() in ("y", "n", "yes", "no", "on", "off") or data[:1] in tuple("0123456789+-."):
            # Strings in YAML 1.2, which is written here; truth values and numbers (10:30!) in 1.1, which kubectl reads.
            return SingleQuotedScalarString(data)
        case _:
            return data


def moment(rfc3339: str | None) -> datetime | None:
    return datetime.fromisoformat(rfc3339) if rfc3339 else None


def age(rfc3339: str | None, now: datetime | None = None) -> str | None:
    """How long ago, in kubectl's short form."""
    then = moment(rfc3339)
    return None if then is None else short(((now or datetime.now(UTC)) - then).total_seconds())


def short(seconds: float) -> str:
    """kubectl's HumanDuration: two units while the second matters, else one."""
    s = max(0, int(seconds))
    for below, big, small in ((120, "s", ""), (600, "m", "s"), (10800, "m", ""), (28800, "h", "m"), (172800, "h", "")):
        if s < below:
            return _units(s, big, small)
    return _units(s, "d", "h" if s < 8 * 86400 else "")


_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _units(seconds: int, big: str, small: str) -> str:
    count, rest = divmod(seconds, _SECONDS[big])
    fine = rest // _SECONDS[small] if small else 0
    return f"{count}{big}" + (f"{fine}{small}" if fine else "")


def clock(rfc3339: str | None, now: datetime | None = None, *, seconds: bool = False) -> str:
    """A time of day as the reader's clock shows it; with the day when that is not today."""
    then = moment(rfc3339)
    if then is None:
        return "-"
    local, today = then.astimezone(), (now or datetime.now(UTC)).astimezone().date()
    day = "" if local.date() == today else "%a %d %b "
    return local.strftime(day + ("%H:%M:%S" if seconds else "%H:%M"))
