"""Who is held, by the same counts as a JVM keeps."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noah.core.jdwp.suspension import MOST_LEVELS, MOST_THREADS, Mark, Suspension
from noah.core.session.session import Vm

THREADS = (1, 2, 3)
OPS = st.lists(
    st.tuples(st.sampled_from(["suspend", "resume", "forget"]), st.sampled_from([None, *THREADS])), max_size=60
)


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


def apply(suspension: Suspension, op: str, thread: int | None) -> None:
    match op, thread:
        case "suspend", None:
            suspension.suspend_all()
        case "suspend", int(one):
            suspension.suspend(one)
        case "resume", None:
            suspension.resume_all()
        case "resume", int(one):
            suspension.resume(one)
        case "forget", int(one):
            suspension.forget(one)


@settings(deadline=None, max_examples=500)
@given(OPS)
def test_every_thread_is_held_when_the_jvm_holds_it(ops: list[tuple[str, int | None]]) -> None:
    suspension, jvm = Suspension(), Jvm()
    marks: dict[int, Mark] = {}  # of threads that never ran since
    for op, thread in ops:
        if op == "forget":
            if thread is not None:  # it has ended, and a new one takes its place with the VM's count
                jvm.counts[thread] = jvm.whole
                marks.pop(thread, None)
        else:
            jvm.apply(op, thread)
        apply(suspension, op, thread)
        assert {thread: suspension.holds(thread) for thread in jvm.counts} == {
            thread: count > 0 for thread, count in jvm.counts.items()
        }
        assert (suspension.vm is Vm.SUSPENDED) == (jvm.whole > 0)
        assert (suspension.vm is Vm.RUNNING) == (not any(jvm.counts.values()))
        if thread is None:
            held = {one for one, mark in marks.items() if suspension.has_held_since(mark)}
            assert held == {one for one in marks if jvm.counts[one] > 0}
            marks = {one: mark for one, mark in marks.items() if one in held}
        elif jvm.counts[thread] > 0:
            marks[thread] = suspension.mark(thread)
        else:
            marks.pop(thread, None)


@pytest.mark.parametrize("sure", [Suspension.suspend_all, Suspension.resume_all, Suspension.release])
def test_doubt_lasts_until_a_sure_sign(sure: Callable[[Suspension], None]) -> None:
    suspension = Suspension()
    suspension.doubt()
    suspension.suspend(1)
    assert suspension.vm is Vm.UNKNOWN
    sure(suspension)
    assert suspension.vm is not Vm.UNKNOWN


def test_more_single_threads_than_are_kept_make_it_unknown_not_running() -> None:
    suspension = Suspension()
    for thread in range(MOST_THREADS + 1):
        suspension.suspend(thread)
    assert suspension.vm is Vm.UNKNOWN


def test_more_nested_suspends_than_are_kept_make_it_unknown_not_running() -> None:
    suspension = Suspension()
    for _ in range(MOST_LEVELS + 1):
        suspension.suspend_all()
    assert suspension.vm is Vm.UNKNOWN


def test_threads_that_came_back_to_the_vms_count_make_room_for_others() -> None:
    suspension = Suspension()
    for thread in range(3 * MOST_THREADS):
        suspension.suspend(thread)
        suspension.resume_all()
    assert suspension.vm is Vm.RUNNING


def test_all_threads_resumed_one_by_one_are_a_running_vm() -> None:
    suspension = Suspension()
    suspension.suspend(1)
    suspension.suspend_all()
    suspension.resume(1)
    assert not suspension.is_partly_resumed
    suspension.resume(1)
    assert suspension.is_partly_resumed
    suspension.list_threads([1, 2, 3])
    suspension.resume(2)
    seen = [suspension.vm]
    suspension.resume(3)
    seen.append(suspension.vm)
    suspension.suspend(2)
    seen.append(suspension.vm)
    suspension.resume(2)
    seen.append(suspension.vm)
    suspension.suspend_all()
    seen.append(suspension.vm)
    assert seen == [Vm.SUSPENDED, Vm.RUNNING, Vm.SUSPENDED, Vm.RUNNING, Vm.SUSPENDED]


def steps(prepare: int, ops: list[str]) -> int:
    """How many lines of Python the last *ops* run after *prepare* threads were suspended one by one, 30 times each."""
    suspension, lines = Suspension(), 0
    for thread in range(prepare):
        for _ in range(30):
            suspension.suspend(thread)

    def count(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        lines += 1
        return count

    sys.settrace(count)
    try:
        for op in ops:
            apply(suspension, op, None)
            suspension.holds(0)
            assert suspension.vm
    finally:
        sys.settrace(None)
    return lines


def test_a_step_of_the_vm_costs_the_same_however_many_threads_are_held() -> None:
    for ops in (["suspend", "resume"] * 50, ["resume"] * 100, ["suspend"] * 100):
        assert steps(MOST_THREADS - 1, ops) <= steps(2, ops) * 1.2
