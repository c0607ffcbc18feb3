"""The table of a release's event kinds: what is published is listed everywhere, and nothing else is."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest

import noah
from noah.cli.release import _line
from noah.core.release.release_event import SHOWN_AS, ReleaseEventKind

ROOT = Path(noah.__file__).parent
SCRIPTS = ROOT / "web" / "pages" / "static"
OF_THE_STREAM = {ReleaseEventKind.GAP, ReleaseEventKind.RESTARTED}  # the page shows a gap always, and never the other


def published() -> set[str]:
    """The kinds that the source gives to ReleaseEvent, or to a method that makes one."""
    found: set[str] = set()
    for path in ROOT.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and _name(call.func) in ("ReleaseEvent", "_say"):
                kinds = (arg for arg in call.args if isinstance(arg, ast.Attribute))
                found |= {kind.attr for kind in kinds if _name(kind.value) == "ReleaseEventKind"}
    return found


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


def test_every_kind_is_published_and_every_published_kind_is_in_the_table() -> None:
    assert published() == {kind.name for kind in ReleaseEventKind}


def test_the_page_shows_and_hides_every_kind_once() -> None:
    shown = [kind for kinds in SHOWN_AS.values() for kind in kinds]
    assert len(shown) == len(set(shown))
    assert {*shown, *OF_THE_STREAM} == set(ReleaseEventKind)


def test_the_page_s_scripts_know_no_other_kinds() -> None:
    named: set[str] = set()
    for path in SCRIPTS.glob("release*.js"):
        text = path.read_text(encoding="utf-8")
        named |= set(re.findall(r'(?:\bkind|\bevent) === "(\w+)"', text))
        for listed in re.findall(r"new Set\(\[(.*?)\]\)", text):
            named |= set(re.findall(r'"(\w+)"', listed))
    assert len(named) > 5
    assert named <= set(ReleaseEventKind)


@pytest.mark.parametrize("kind", ReleaseEventKind)
def test_the_command_line_prints_every_kind(kind: ReleaseEventKind) -> None:
    more: dict[str, Any] = {"pod": "shop-1", "container": "app", "restart": 0, "hook": "preStart", "online": True}
    more |= {"object": "Pod/shop-1", "type": "Normal", "reason": "Started", "result": "done"}
    assert "what happened" in _line({"at": "2026-01-01T10:00:00Z", "kind": kind, "text": "what happened", **more})
