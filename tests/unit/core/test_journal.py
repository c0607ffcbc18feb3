"""What a release has told: numbered without holes, bounded, and honest about what it no longer holds."""

from hypothesis import given
from hypothesis import strategies as st

from noah.core.release.journal import LINES, LONGEST_KEPT, OTHERS, OVERHEAD, Journal, with_gaps
from noah.core.release.release_event import Numbered, ReleaseEvent, ReleaseEventKind


def line(text: str, *, pod: str = "a", restart: int = 0) -> ReleaseEvent:
    return ReleaseEvent(
        "2026-01-01T10:00:00.000000Z", ReleaseEventKind.LOG, text, {"pod": pod, "container": "app", "restart": restart}
    )


def texts(events: list[Numbered]) -> list[str]:
    return [told.text for _, told in events]


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
    journal = Journal(held=10 * OVERHEAD)
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
    journal = Journal(held=20 * OVERHEAD)
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
    assert [n for n, _ in journal.after(0, limit=100, size=3000)] == [1, 2]
    assert [n for n, _ in journal.after(2, limit=100, size=1)] == [3]


def test_the_end_of_each_run_of_each_container_is_kept_and_all_that_is_no_line() -> None:
    journal = Journal()
    journal.add(ReleaseEvent("", ReleaseEventKind.POD, "Pending", {"pod": "a"}))
    for n in range(LINES + 50):
        journal.add(line(f"loud {n}"))
    journal.add(line("quiet", pod="b"))
    journal.add(line("before the crash", restart=1))
    kept = journal.kept()
    assert texts(kept)[0] == "Pending"
    assert texts(kept)[1] == "loud 50"
    assert texts(kept)[-2:] == ["quiet", "before the crash"]
    assert [n for n, _ in kept] == sorted(n for n, _ in kept)
    shown = list(Journal(kept).after(0, limit=10_000))
    assert [told.more["missed"] for _, told in shown if told.kind == ReleaseEventKind.GAP] == [50]


def test_what_is_kept_has_bounds() -> None:
    journal = Journal()
    journal.add(line("x" * 10 * LONGEST_KEPT))
    for _ in range(2 * OTHERS):
        journal.add(ReleaseEvent("", ReleaseEventKind.CONDITION, "Ready", {"pod": "a"}))
    first, *others = journal.kept()
    assert len(first[1].text) < LONGEST_KEPT + 10
    assert len(others) == OTHERS


def test_a_gap_is_one_word_between_numbers() -> None:
    told = line("x")
    shown = list(with_gaps([(2, told), (3, told), (7, told)], 0))
    assert [(n, one.kind, one.more.get("missed")) for n, one in shown] == [
        (1, "gap", 1),
        (2, "log", None),
        (3, "log", None),
        (6, "gap", 3),
        (7, "log", None),
    ]
