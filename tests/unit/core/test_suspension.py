"""Who is held, by the same counts as a JVM keeps."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noah.core.jdwp.suspension import MOST_THREADS, Suspension
from noah.core.session.session import Vm

THREADS = (1, 2, 3)
OPS = st.lists(st.tuples(st.sampled_from(["suspend", "resume"]), st.sampled_from([None, *THREADS])), max_size=40)


class Jvm:
    """HotSpot's rules, thread by thread."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys([*THREADS, 99], 0)  # 99: one that nobody names
        self.whole = 0

    def apply(self, op: str, thread: int | None) -> None:
        by = 1 if op == "suspend" else -1
        for each in self.counts if thread is None else [thread]:
            self.counts[each] = max(0, self.counts[each] + by)
        if thread is None:
            self.whole = max(0, self.whole + by)


@settings(deadline=None)
@given(OPS)
def test_every_thread_is_held_when_the_jvm_holds_it(ops: list[tuple[str, int | None]]) -> None:
    suspension, jvm = Suspension(), Jvm()
    for op, thread in ops:
        jvm.apply(op, thread)
        match op, thread:
            case "suspend", None:
                suspension.suspend_all()
            case "suspend", int(one):
                suspension.suspend(one)
            case "resume", None:
                suspension.resume_all()
            case "resume", int(one):
                suspension.resume(one)
        assert {thread: suspension.holds(thread) for thread in jvm.counts} == {
            thread: count > 0 for thread, count in jvm.counts.items()
        }
        assert (suspension.vm is Vm.SUSPENDED) == (jvm.whole > 0)
        assert (suspension.vm is Vm.RUNNING) == (not any(jvm.counts.values()))


@pytest.mark.parametrize("sure", [Suspension.suspend_all, Suspension.resume_all, Suspension.release])
def test_doubt_lasts_until_a_sure_sign(sure: object) -> None:
    suspension = Suspension()
    suspension.doubt()
    suspension.suspend(1)
    assert suspension.vm is Vm.UNKNOWN
    sure(suspension)  # type: ignore[operator]
    assert suspension.vm is not Vm.UNKNOWN


def test_more_single_threads_than_are_kept_make_it_unknown_not_running() -> None:
    suspension = Suspension()
    for thread in range(MOST_THREADS + 1):
        suspension.suspend(thread)
    assert suspension.vm is Vm.UNKNOWN
