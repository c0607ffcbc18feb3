"""Which threads a debugger holds, counted as HotSpot's threadControl.c counts.

Suspends nest. Suspending or resuming the VM changes every thread's count, never below zero; a thread started while the
VM is suspended inherits the VM's count. A debugger chooses how many threads it holds and how often it suspends, so no
step here may cost more for that: steps of the whole VM touch no thread.

How: `_shift` is the sum of all steps of the whole VM, each +1 or -1, also where counts stayed at zero; `_levels` has,
for each suspend of the whole VM that is still in force, the step at which it began. A thread that had the count c at
step s has at least `_shift` more than (c - its `_shift` then), and at least the levels that began after s.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

from noah.core.session.session import Vm

MOST_THREADS: Final = 1024  # whose counts differ from the VM's; a debugger that holds more one by one leaves us unsure
MOST_LEVELS: Final = 4096  # suspends of the VM within each other; JDI's tests go to some dozens


class Mark(NamedTuple):
    """A thread's count at one step, in a form that later steps of the whole VM do not make wrong."""

    base: int  # the count minus _shift at that step
    step: int


class Suspension:
    def __init__(self) -> None:
        self.step = 0  # of all that was suspended and resumed; never the same again
        self.release()

    def release(self) -> None:
        """Hold nothing: the debugger has not begun, or has released everything."""
        self.step += 1
        self._shift = 0
        self._levels: list[int] = []
        self._threads: dict[int, Mark] = {}  # those that were suspended or resumed one by one
        self._bases: Counter[int] = Counter()  # of _threads, how many have this base
        self._above = 0  # of _threads, how many have a base above -_shift
        self._swept = 0  # the step at which _threads was last rid of those that have the VM's count again
        self._is_partly_resumed = False  # threads have counts below the VM's
        self._standing: set[int] | None = None  # all that are held while the VM is suspended; None: not known
        self._unsure = False

    @property
    def vm(self) -> Vm:
        if self._unsure:
            return Vm.UNKNOWN
        if self._levels:
            # Also when single threads were resumed since, unless these are known to be all.
            return Vm.RUNNING if self._standing is not None and not self._standing else Vm.SUSPENDED
        return Vm.THREAD if self._above else Vm.RUNNING

    @property
    def is_partly_resumed(self) -> bool:
        """True if the VM is suspended, threads of it were resumed one by one, and it is not known whether all were."""
        return self._is_partly_resumed and self._standing is None and not self._unsure

    def holds(self, thread: int) -> bool:
        return self._count(thread) > 0

    def mark(self, thread: int) -> Mark:
        return Mark(self._count(thread) - self._shift, self.step)

    def has_held_since(self, mark: Mark) -> bool:
        """True if steps of the whole VM since *mark* never let its thread run; its own steps are not seen."""
        floor = self._shift - len(self._levels)
        return mark.base + floor + bisect_right(self._levels, mark.step) > 0

    def suspend_all(self) -> None:
        self._begin_step()
        self._unsure = len(self._levels) >= MOST_LEVELS
        if self._unsure:
            return
        self._above += self._bases[-self._shift]
        self._shift += 1
        self._levels.append(self.step)

    def resume_all(self) -> None:
        self._begin_step()
        self._unsure = False
        if self._levels:
            self._levels.pop()
            self._is_partly_resumed = self._is_partly_resumed and bool(self._levels)
        elif not self._threads:
            return
        self._shift -= 1
        self._above -= self._bases[-self._shift]

    def suspend(self, thread: int) -> None:
        self._set(thread, self._count(thread) + 1)
        if self._standing is not None:
            self._standing.add(thread)

    def resume(self, thread: int) -> None:
        count = max(0, self._count(thread) - 1)
        self._set(thread, count)
        self._is_partly_resumed = self._is_partly_resumed or count < len(self._levels)
        if not count and self._standing is not None:
            self._standing.discard(thread)

    def forget(self, thread: int) -> None:
        """*thread* has ended."""
        self._remove(thread)
        if self._standing is not None:
            self._standing.discard(thread)

    def found_running(self, thread: int) -> None:
        """The JVM says that it does not hold *thread*."""
        self._set(thread, 0)
        if self._standing is not None:
            self._standing.discard(thread)

    def list_threads(self, threads: Iterable[int]) -> None:
        """These are all threads, listed while the VM was suspended as it is now."""
        self._standing = {thread for thread in threads if self.holds(thread)} if self._levels else None

    def doubt(self) -> None:
        """Something passed that may have suspended: unknown until the next sure sign."""
        self._unsure = True

    def _begin_step(self) -> None:
        self.step += 1
        self._standing = None

    def _count(self, thread: int) -> int:
        mark = self._threads.get(thread)
        if mark is None:
            return len(self._levels)
        return max(mark.base + self._shift, len(self._levels) - bisect_right(self._levels, mark.step))

    def _set(self, thread: int, count: int) -> None:
        self.step += 1
        self._remove(thread)
        if count == len(self._levels):
            return
        if len(self._threads) >= MOST_THREADS and not self._sweep():
            self._unsure = True
            return
        base = count - self._shift
        self._threads[thread] = Mark(base, self.step)
        self._bases[base] += 1
        self._above += count > 0

    def _remove(self, thread: int) -> None:
        mark = self._threads.pop(thread, None)
        if mark is not None:
            self._bases[mark.base] -= 1
            if not self._bases[mark.base]:
                del self._bases[mark.base]
            self._above -= mark.base > -self._shift

    def _sweep(self) -> bool:
        """Make room; True if there is some. Not more often than once in as many steps as it looks at threads."""
        if self.step - self._swept >= MOST_THREADS:
            self._swept = self.step
            level = len(self._levels)
            for thread in [one for one in self._threads if self._count(one) == level]:
                self._remove(thread)
        return len(self._threads) < MOST_THREADS
