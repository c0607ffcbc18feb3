"""What a release has published: numbered without holes, bounded, and honest about what it no longer holds."""

from hypothesis import given
from hypothesis import strategies as st

from noah.core.release.journal import (
    EVENT_OVERHEAD_BYTES,
    LINES_PER_RUN,
    LONGEST_KEPT_LINE,
    MOST_KEPT,
    MOST_OTHERS,
    Journal,
    with_gaps,
)
from noah.core.release.release_event import Numbered, ReleaseEvent, ReleaseEventKind


def line(text: str, *, pod: str = "a", restart: int = 0) -> ReleaseEvent:
    return ReleaseEvent(
        "2026-01-01T10:00:00.000000Z", ReleaseEventKind.LOG, text, {"pod": pod, "container": "app", "restart": restart}
    )


def texts(events: list[Numbered]) -> list[str]:
    return [event.text for _, event in events]


@given(st.lists(st.integers(1, 40)), st.integers(1, 50))
def test_who_reads_on_from_anywhere_gets_the_rest_in_order(sizes: list[int], limit: int) -> None:
    journal = Journal()
    for n, size in enumerate(sizes, 1):
        journal.add(line(f"{n} " + "x" * size))
    for seen in range(len(sizes) + 1):
        found, last = [], seen
        while more := list(journal.after(last, limit=limit)):
            found += more
            last = more[-1][0]
        assert [n for n, _ in found] == list(range(seen + 1, len(sizes) + 1))


def test_what_is_not_held_any_more_is_said_to_be_missing() -> None:
    journal = Journal(held_bytes=10 * EVENT_OVERHEAD_BYTES)
    for n in range(100):
        journal.add(line(str(n)))
    gap, *rest = journal.after(0, limit=1000)
    first = rest[0][0]
    assert gap[1].kind == "gap"
    assert gap[1].more == {"missed": first - 1}
    assert gap[0] == first - 1
    assert texts(rest) == [str(n) for n in range(first - 1, 100)]
    assert 2 <= len(rest) <= 10
    assert list(journal.after(99, limit=1000)) == [(100, line("99"))]


def test_who_comes_late_to_a_loud_release_is_told_how_its_pods_are() -> None:
    journal = Journal(held_bytes=20 * EVENT_OVERHEAD_BYTES)
    journal.add(ReleaseEvent("", ReleaseEventKind.POD, "Pending", {"pod": "a"}))
    for n in range(100):
        journal.add(line(str(n)))
    first, gap, *rest = journal.after(0, limit=1000)
    assert first == (1, ReleaseEvent("", ReleaseEventKind.POD, "Pending", {"pod": "a"}))
    assert gap[1].kind == "gap"
    assert texts(rest)[-1] == "99"


def test_long_lines_are_given_a_few_at_a_time() -> None:
    journal = Journal()
    for _ in range(8):
        journal.add(line("x" * 1000))
    assert [n for n, _ in journal.after(0, limit=100, size_bytes=3000)] == [1, 2]
    assert [n for n, _ in journal.after(2, limit=100, size_bytes=1)] == [3]


def test_the_end_of_each_run_of_each_container_is_kept_and_all_that_is_no_line() -> None:
    journal = Journal()
    journal.add(ReleaseEvent("", ReleaseEventKind.POD, "Pending", {"pod": "a"}))
    for n in range(LINES_PER_RUN + 50):
        journal.add(line(f"loud {n}"))
    journal.add(line("quiet", pod="b"))
    journal.add(line("before the crash", restart=1))
    kept = journal.kept()
    assert texts(kept)[0] == "Pending"
    assert texts(kept)[1] == "loud 50"
    assert texts(kept)[-2:] == ["quiet", "before the crash"]
    assert [n for n, _ in kept] == sorted(n for n, _ in kept)
    shown = list(Journal(kept).after(0, limit=10_000))
    assert [event.more["missed"] for _, event in shown if event.kind == ReleaseEventKind.GAP] == [50]


def test_what_is_kept_has_bounds() -> None:
    journal = Journal()
    journal.add(line("x" * 10 * LONGEST_KEPT_LINE))
    for _ in range(2 * MOST_OTHERS):
        journal.add(ReleaseEvent("", ReleaseEventKind.CONDITION, "Ready", {"pod": "a"}))
    first, *others = journal.kept()
    assert len(first[1].text) < LONGEST_KEPT_LINE + 10
    assert len(others) == MOST_OTHERS


def test_a_gap_is_one_word_between_numbers() -> None:
    event = line("x")
    shown = list(with_gaps([(2, event), (3, event), (7, event)], 0))
    assert [(n, one.kind, one.more.get("missed")) for n, one in shown] == [
        (1, "gap", 1),
        (2, "log", None),
        (3, "log", None),
        (6, "gap", 3),
        (7, "log", None),
    ]


def test_a_release_of_very_many_runs_keeps_the_newest_lines_and_forgets_the_others() -> None:
    journal, runs = Journal(), 12_000
    for n in range(runs):
        journal.add(line(str(n), pod=f"pod-{n}"))
    assert texts(journal.kept()) == [str(n) for n in range(runs - MOST_KEPT, runs)]
    assert len(journal._lines) <= 2 * MOST_KEPT


def test_a_journal_that_is_halved_says_how_much_smaller_it_is() -> None:
    journal = Journal()
    for n in range(10):
        journal.add(line(str(n)))
    before = journal.size_bytes
    journal.drop_older_half()
    assert journal.size_bytes == before / 2
    assert [one.kind for _, one in journal.after(0, limit=100)] == ["gap", *["log"] * 5]
