"""The table of event kinds against the source: every kind is published, and readers know no others."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import noah
from noah.core.session.event_kind import EventKind

SOURCE = Path(noah.__file__).parent
SCRIPTS = SOURCE / "web" / "pages" / "static"
PUBLISHERS = {"publish", "notice", "_notice", "_refuse", "Event"}
# These scripts read the feed; a release's stream has kinds of its own.
READERS = ("stream.js", "page.js")


def arguments_of_publishers() -> Iterator[ast.expr]:
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                function = node.func
                name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
                if name in PUBLISHERS:
                    yield from node.args


def test_every_kind_of_the_table_is_published() -> None:
    published = {
        argument.attr
        for argument in arguments_of_publishers()
        if isinstance(argument, ast.Attribute) and getattr(argument.value, "id", "") == "EventKind"
    }
    assert published == {kind.name for kind in EventKind}


def test_the_page_names_no_kind_that_is_not_in_the_table() -> None:
    named = {
        kind
        for script in READERS
        for kind in re.findall(r'kind(?: ===|:) "([^"]*)"', (SCRIPTS / script).read_text(encoding="utf-8"))
    }
    assert named <= set(EventKind)
    assert "reload" in named  # the expression above still finds what it looks for
