"""What `noah release watch` leaves out when a gateway that was restarted sends a release again."""

from typing import Any

import click

from noah.cli.release import _line
from noah.cli.repeat_filter import RepeatFilter
from noah.core.release.release_event import ReleaseEventKind


def event(kind: str, text: str, **more: Any) -> dict[str, Any]:
    return {"at": "2026-01-01T10:00:00.000000001Z", "kind": kind, "text": text, **more}


def line(at: int, text: str = "x") -> dict[str, Any]:
    where = {"pod": "a", "container": "app", "restart": 0}
    return {**event("log", text, **where), "at": f"2026-01-01T10:00:00.{at:09}Z"}


RESTARTED = event(ReleaseEventKind.RESTARTED, "")


def test_a_story_repeated_is_shown_once() -> None:
    story = [event("pod", "Pending", pod="a"), line(1), line(2), line(2), event("pod", "Running", pod="a")]
    shown = RepeatFilter()
    assert [one for one in story if shown.is_new(one)] == story
    repeated = [RESTARTED, story[0], line(1), line(2), line(2), story[4], line(2, "third of that time"), line(3)]
    assert [one["text"] for one in repeated if shown.is_new(one)] == ["third of that time", "x"]


def test_what_happens_once_more_after_the_restart_is_shown() -> None:
    shown, running = RepeatFilter(), event("pod", "Running", pod="a")
    assert shown.is_new(running)
    assert shown.is_new(running)  # after a crash: one gateway that says it twice means it
    assert [shown.is_new(one) for one in (RESTARTED, running, running, running)] == [False, False, False, True]


def test_an_end_is_always_shown() -> None:
    shown, end = RepeatFilter(), event("end", "2 of 2 online", result="done")
    assert [shown.is_new(one) for one in (end, RESTARTED, end)] == [True, False, True]


def test_control_characters_reach_no_terminal() -> None:
    printed = _line({**line(1, "\x1b[2Jwiped"), "pod": "a\x1b[2J"})
    assert click.unstyle(printed).isprintable()
