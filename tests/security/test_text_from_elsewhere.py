"""Text that pods, API servers and other people choose steers no terminal, forges no line and runs in no sheet."""

import io
import json
import logging
from typing import Any

import click
import pytest

from noah import cli
from noah.cli import release, session_text, wait
from noah.cli.output import print_list
from noah.cli.terminal import echo_styled
from noah.errors import CannotDebug
from noah.process_log import FORMAT, OneLine
from noah.web.api.export import plain_cell

ESCAPES = {
    "clears the screen": "\x1b[2J",
    "sets the title": "\x1b]0;owned\x07",
    "C1 control sequence": "\x9b2J",
    "turns the line around": "\u202egnp.exe",
    "isolates": "\u2066x\u2069",
    "carriage return": "fine\rerror",
    "backspaces": "no\b\byes",
    "a line of its own": "x\n2026-01-01 00:00:00 INFO noah mallory is an operator",
    "NEL": "x\x85y",
    "line separator": "x\u2028y",
    "an invisible character": "pay\u200bpal",
    "a tag": "\U000e0041",
}


def is_harmless(text: str, *, keep: str = "\n\t") -> bool:
    return all(character.isprintable() or character in keep for character in text)


@pytest.mark.parametrize("what", ESCAPES)
def test_a_log_line_stays_one_line_of_printable_text(what: str) -> None:
    into = io.StringIO()
    handler = logging.StreamHandler(into)
    handler.setFormatter(OneLine(FORMAT))
    logger = logging.Logger(f"noah.{ESCAPES[what]}")
    logger.addHandler(handler)
    logger.warning("GET /%s 404", ESCAPES[what])
    assert is_harmless(into.getvalue().removesuffix("\n"), keep="")
    try:
        raise CannotDebug(ESCAPES[what])
    except CannotDebug:
        logger.exception("failed")
    assert is_harmless(into.getvalue())


def session(evil: str) -> dict[str, Any]:
    return {
        "id": f"s-1{evil}", "target": f"pod/c/n/{evil}", "owner": evil, "status": "ended", "end_reason": "failed",
        "end_detail": evil, "ended_by": evil, "reason": evil, "host": evil, "port": 1, "allow": [evil],
        "steps": [{"at": "2026-01-01T00:00:00Z", "text": evil}], "vm": {"state": "suspended", "thread": evil},
        "attached": {"debugger": evil, "address": evil, "since": None},
    }  # fmt: skip


@pytest.mark.parametrize("what", ESCAPES)
def test_a_session_of_other_people_prints_printable_text_only(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    evil = session(ESCAPES[what])
    echo_styled(session_text.describe(evil))
    for output in (None, "json", "yaml", "name"):
        print_list({"items": [evil]}, output, session_text.COLUMNS, name=session_text.name, nothing="")
    said = capsys.readouterr()
    assert is_harmless(said.out + said.err)


@pytest.mark.parametrize("what", ESCAPES)
def test_a_refusal_prints_printable_text_only(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As in `enable --wait` and in `release watch`: whatever a command raises comes out at one place."""
    for error in (CannotDebug(wait._why_it_ended(session(ESCAPES[what]))), click.UsageError(f"No {ESCAPES[what]}.")):
        assert cli.report(error) != 0
        said = capsys.readouterr()
        assert said.err.strip()
        assert is_harmless(said.out + said.err)


@pytest.mark.parametrize("what", ESCAPES)
@pytest.mark.parametrize("kind", ["log", "event", "end", "pod", "hook"])
def test_an_event_of_a_release_prints_printable_text_only(
    what: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = ESCAPES[what]
    echo_styled(
        release._line(
            {
                "at": "2026-01-01T00:00:00.5Z", "kind": kind, "text": evil, "pod": evil, "container": evil,
                "restart": 0, "hook": evil, "object": evil, "reason": evil, "type": evil, "result": evil,
            }
        )
    )  # fmt: skip
    assert is_harmless(capsys.readouterr().out.replace("\x1b[", "").removesuffix("\n"), keep="")


@pytest.mark.parametrize("sign", "=+-@＝＋－＠")
@pytest.mark.parametrize("before", ["", " ", "\t", "\r", "\n", "x;", "x\t", "x; "])
def test_no_cell_of_an_export_is_a_formula(sign: str, before: str) -> None:
    cell = str(plain_cell(f"{before}{sign}cmd|' /C calc'!A0"))
    for piece in cell.replace("\t", ";").replace("\r", ";").replace("\n", ";").split(";"):
        assert not piece.strip().startswith(sign)


def test_json_for_people_keeps_what_it_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    evil = session("".join(ESCAPES.values()))
    print_list({"items": [evil]}, "json", session_text.COLUMNS, name=session_text.name, nothing="")
    assert json.loads(capsys.readouterr().out) == {"items": [evil]}
