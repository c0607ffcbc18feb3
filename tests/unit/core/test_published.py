from noah.core.release.published import Published
from noah.core.release.release_event import Numbered, ReleaseEvent, ReleaseEventKind


def line(at: str, text: str, restart: int = 0) -> ReleaseEvent:
    return ReleaseEvent(at, ReleaseEventKind.LOG, text, {"pod": "shop-1", "container": "app", "restart": restart})


def phase(at: str, text: str) -> ReleaseEvent:
    return ReleaseEvent(at, ReleaseEventKind.POD, text, {"pod": "shop-1"})


def numbered(*events: ReleaseEvent) -> list[Numbered]:
    return list(enumerate(events, 1))


def test_a_line_is_new_as_often_as_it_was_printed_more_than_it_was_published() -> None:
    published = Published(numbered(line("10:00:01Z", "tick"), line("10:00:01Z", "tick")))
    again = [line("10:00:01Z", "tick")] * 3
    assert [published.is_new(one) for one in again] == [False, False, True]


def test_a_line_of_another_run_of_the_container_is_another_line() -> None:
    published = Published(numbered(line("10:00:01Z", "tick")))
    assert published.is_new(line("10:00:01Z", "tick", restart=1))


def test_lines_from_before_those_that_are_held_were_published() -> None:
    published = Published(numbered(line("10:00:05Z", "five"), line("10:00:06Z", "six")))
    again = [line(f"10:00:0{n}Z", text) for n, text in enumerate(("four", "five", "six", "seven"), 4)]
    assert [published.is_new(one) for one in again] == [False, False, False, True]


def test_what_a_look_shows_is_new_only_if_it_differs_from_what_was_shown_last() -> None:
    published = Published(numbered(phase("10:00:01Z", "Pending"), phase("10:00:02Z", "Running")))
    assert not published.is_new(phase("10:07:00Z", "Running"))
    assert published.is_new(phase("10:07:01Z", "Running"))  # it was something else in between
    published = Published(numbered(phase("10:00:01Z", "Pending")))
    assert published.is_new(phase("10:07:00Z", "Running"))


def test_nothing_is_published_of_a_release_that_begins() -> None:
    assert Published(()).is_new(line("10:00:01Z", "tick"))
