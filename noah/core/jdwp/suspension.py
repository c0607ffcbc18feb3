"""Which threads a debugger holds, by counting as HotSpot's threadControl.c does.

Suspends nest. Suspending or resuming the VM changes every thread's count, never below zero; a thread started while the
VM stands still inherits the VM's count. So one number serves for all threads but those that were held one by one.
"""

from noah.core.session.session import Vm

MOST_THREADS = 1024  # that differ from the VM's count; a debugger that holds more one by one leaves us unsure


class Suspension:
    def __init__(self) -> None:
        self.release()

    def release(self) -> None:
        """The debugger holds nothing: it has not begun, or let go of everything."""
        self._all = 0
        self._threads: dict[int, int] = {}  # only those whose count is not the VM's
        self._unsure = False

    @property
    def vm(self) -> Vm:
        if self._unsure:
            return Vm.UNKNOWN
        if self._all:
            # Also when single threads were resumed since: the others stand.
            return Vm.SUSPENDED
        return Vm.THREAD if self._threads else Vm.RUNNING

    def holds(self, thread: int) -> bool:
        return self._threads.get(thread, self._all) > 0

    def suspend_all(self) -> None:
        self._unsure = False
        self._all += 1
        self._threads = {thread: count + 1 for thread, count in self._threads.items()}

    def resume_all(self) -> None:
        self._unsure = False
        self._all = max(0, self._all - 1)
        lowered = {thread: max(0, count - 1) for thread, count in self._threads.items()}
        self._threads = {thread: count for thread, count in lowered.items() if count != self._all}

    def suspend(self, thread: int) -> None:
        self._set(thread, self._threads.get(thread, self._all) + 1)

    def resume(self, thread: int) -> None:
        self._set(thread, max(0, self._threads.get(thread, self._all) - 1))

    def doubt(self) -> None:
        """Something passed that may have suspended: unknown until the next sure sign."""
        self._unsure = True

    def _set(self, thread: int, count: int) -> None:
        self._threads.pop(thread, None)
        if count == self._all:
            return
        if len(self._threads) >= MOST_THREADS:
            self._unsure = True
        else:
            self._threads[thread] = count
