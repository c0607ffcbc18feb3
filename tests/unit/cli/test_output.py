"""How things look: tables, ages, YAML."""

from datetime import UTC, datetime, timedelta
from typing import Any

import click
import pytest
from ruamel.yaml import YAML

from noah.cli.manifests.writing import to_yaml
from noah.cli.output import Column, table
from noah.cli.times import clock, short
from noah.core.printable import printable

COLUMNS = (
    Column("NAME", lambda i: i["name"]),
    Column("STATUS", lambda i: i["status"], {"ready": "green"}),
    Column("WHY", lambda i: i["why"]),
)
ITEMS: list[dict[str, Any]] = [
    {"name": "a", "status": "ready", "why": None},
    {"name": "a-longer-one", "status": "waiting", "why": "the pod is not ready"},
]


def test_columns_are_aligned_and_what_is_missing_is_a_dash() -> None:
    lines = [click.unstyle(line) for line in table(ITEMS, COLUMNS, width=None)]
    assert lines == [
        "NAME           STATUS    WHY",
        "a              ready     -",
        "a-longer-one   waiting   the pod is not ready",
    ]


def test_a_terminal_narrower_than_the_table_cuts_its_lines_and_no_colour_is_left_open() -> None:
    for width in range(1, 50):
        lines = table(ITEMS, COLUMNS, width=width)
        assert all(len(click.unstyle(line)) <= width for line in lines)
        assert all(line.count("\x1b[32m") == line.count("\x1b[0m") for line in lines)
    assert click.unstyle(table(ITEMS, COLUMNS, width=30)[2]) == "a-longer-one   waiting   the …"


def test_colour_is_where_its_cell_is() -> None:
    assert table(ITEMS, COLUMNS, width=None)[1] == "a              \x1b[32mready\x1b[0m     -"


def test_a_name_from_a_cluster_cannot_steer_the_terminal() -> None:
    assert printable("shop\x1b[2J\r\n") == "shop\ufffd[2J\ufffd\ufffd"
    assert printable("Müller 張") == "Müller 張"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-3, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (134, "2m14s"),
        (600, "10m"),
        (3600 * 2, "120m"),
        (3600 * 3, "3h"),
        (3600 * 7 + 120, "7h2m"),
        (3600 * 20, "20h"),
        (86400 * 3 + 3600 * 4, "3d4h"),
        (86400 * 30 + 3600, "30d"),
    ],
)
def test_a_length_of_time_is_as_short_as_kubectls(seconds: float, shown: str) -> None:
    assert short(seconds) == shown


def test_a_time_of_another_day_has_its_day() -> None:
    noon = datetime.now().astimezone().replace(hour=12, minute=5, second=9)
    stamp = noon.astimezone(UTC).isoformat().replace("+00:00", "Z")
    assert clock(stamp, noon) == "12:05"
    assert clock(stamp, noon, seconds=True) == "12:05:09"
    assert clock(stamp, noon + timedelta(days=2)) == noon.strftime("%a %d %b 12:05")
    assert clock(None) == "-"


@pytest.mark.parametrize(
    "data",
    [
        {
            "owner": "no",
            "n": 5,
            "none": None,
            "yes": ["on", "2026-01-01T00:00:00Z", "5", "10:30", "017", ".5", "", "a: b", "- x", "#"],
        },
        {"script": "#!/bin/sh\nexit 0\n", "list": [{"a": 1}, []]},
    ],
)
def test_yaml_says_the_same_as_the_data(data: dict[str, Any]) -> None:
    for version in ((1, 1), (1, 2)):  # kubectl reads 1.1, in which a bare no is a truth value
        yaml = YAML(typ="safe", pure=True)
        yaml.version = version
        assert yaml.load(to_yaml(data)) == data


def test_a_script_in_yaml_is_a_block_that_people_can_read() -> None:
    assert to_yaml({"command": ["sh", "if a\nthen b\nfi\n"]}) == (
        "command:\n  - sh\n  - |\n    if a\n    then b\n    fi\n"
    )
