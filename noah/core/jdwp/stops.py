"""Where threads stopped that are still held: by which the VM's state is described.

Stops are remembered by thread; the newest whose thread was held ever since is the current one. A method that a debugger
invokes lets threads run and holds them again at its end, as HotSpot's invoker.c does, and its thread is then where it
was; as long as nothing else happens in between, everything counts as held.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from noah.core.jdwp import wire
from noah.core.jdwp.suspension import Mark, Suspension
from noah.core.jdwp.wire import Location
from noah.core.session.session import Vm

MOST_STOPS: Final = 64  # threads whose stops are remembered
_MOST_UNCHECKED: Final = 8  # threads that were suspended one by one and may have ended
_MOST_INVOCATIONS: Final = 64


@dataclass(slots=True)
class _Stop:
    mark: Mark  # its thread was held ever since
    location: Location | None  # None: not known


@dataclass(slots=True)
class _Invocation:
    thread: int
    is_single_threaded: bool
    has_begun: bool = False  # threads were let run for it, as far as is known here
    stop: _Stop | None = None  # of its thread, where it will be again


class Stops:
    def __init__(self) -> None:
        self.unchecked: dict[int, None] = {}  # threads that were suspended one by one: perhaps they have ended
        self._suspension = Suspension()
        self._by_thread: OrderedDict[int, _Stop] = OrderedDict()  # the newest last
        self._invocations: dict[int, _Invocation] = {}  # by the packet ID of the command

    @property
    def vm(self) -> Vm:
        return self._suspension.vm

    @property
    def step(self) -> int:
        """A number that changes whenever anything is suspended or resumed."""
        return self._suspension.step

    @property
    def is_partly_resumed(self) -> bool:
        return self._suspension.is_partly_resumed

    @property
    def is_invoking(self) -> bool:
        return bool(self._invocations)

    def current(self) -> tuple[int, Location | None] | None:
        """Return the thread and the location of the newest stop whose thread was held ever since."""
        while self._by_thread:
            thread = next(reversed(self._by_thread))
            stop = self._of(thread)
            if stop is not None:
                return thread, stop.location
        return None

    # What the debugger does

    def release(self) -> None:
        """The debugger has released everything."""
        self._suspension.release()
        self._by_thread.clear()
        self._invocations.clear()

    def suspend_all(self) -> None:
        self._begin_invocations()
        self._suspension.suspend_all()

    def resume_all(self) -> None:
        self._begin_invocations()
        self._suspension.resume_all()

    def suspend(self, thread: int) -> None:
        self._begin_invocations()
        self._suspend(thread)
        # A JVM says yes when it is asked to suspend a thread that has ended.
        self.unchecked[thread] = None
        if len(self.unchecked) > _MOST_UNCHECKED:
            del self.unchecked[next(iter(self.unchecked))]

    def resume(self, thread: int) -> None:
        self._begin_invocations()
        self._resume(thread)

    def invoke(self, packet_id: int, thread: int, *, is_single_threaded: bool) -> None:
        if len(self._invocations) < _MOST_INVOCATIONS:
            self._invocations[packet_id] = _Invocation(thread, is_single_threaded)
        else:
            self.doubt()

    def invoked(self, packet_id: int, *, is_refused: bool) -> None:
        """The method has ended, or *is_refused*: it did not begin."""
        invocation = self._invocations.pop(packet_id, None)
        if invocation is not None and (invocation.has_begun or not is_refused):
            self._begin(invocation)
            self._end(invocation)

    def moved(self, thread: int, location: Location | None) -> None:
        """*thread*, if it stopped, is at *location* now; None if that is not known."""
        stop = self._of(thread)
        if stop is not None:
            stop.location = location

    # What the JVM says

    def stopped(self, policy: int, thread: int | None, location: Location | None) -> None:
        """The JVM has suspended all threads or this one, by *policy*, for an event of this one."""
        self._begin_invocations()
        if policy == wire.ALL:
            self._suspension.suspend_all()
        elif policy == wire.EVENT_THREAD and thread is not None:
            self._suspend(thread)
            self.unchecked.pop(thread, None)
        else:
            self.doubt()
            return
        if thread is not None:
            self._put(thread, _Stop(self._suspension.mark(thread), location))

    def ended(self, thread: int) -> None:
        self._suspension.forget(thread)
        self._drop(thread)

    def found_running(self, thread: int) -> None:
        self._suspension.found_running(thread)
        self._drop(thread)

    def list_threads(self, threads: Iterable[int]) -> None:
        """These are all threads, as of this step."""
        self._suspension.list_threads(threads)

    def doubt(self) -> None:
        """Something passed that may have suspended: unknown until the next sure sign."""
        self._suspension.doubt()

    def forget_places(self) -> None:
        self._by_thread.clear()
        self.unchecked.clear()

    # Threads, one by one

    def _of(self, thread: int) -> _Stop | None:
        """Return where *thread* stopped, if it was held ever since."""
        stop = self._by_thread.get(thread)
        if stop is not None and not self._suspension.has_held_since(stop.mark):
            del self._by_thread[thread]
            return None
        return stop

    def _put(self, thread: int, stop: _Stop) -> None:
        self._by_thread[thread] = stop
        self._by_thread.move_to_end(thread)
        if len(self._by_thread) > MOST_STOPS:
            self._by_thread.popitem(last=False)

    def _drop(self, thread: int) -> None:
        self._by_thread.pop(thread, None)
        self.unchecked.pop(thread, None)

    def _suspend(self, thread: int) -> None:
        stop = self._of(thread)
        self._suspension.suspend(thread)
        if stop is not None:
            stop.mark = self._suspension.mark(thread)

    def _resume(self, thread: int) -> None:
        stop = self._of(thread)
        self._suspension.resume(thread)
        if stop is not None:
            stop.mark = self._suspension.mark(thread)
        if not self._suspension.holds(thread):
            self.unchecked.pop(thread, None)

    # Methods that the debugger invokes

    def _begin_invocations(self) -> None:
        """Something else happens before they have ended, and they were there first."""
        for invocation in self._invocations.values():
            self._begin(invocation)

    def _begin(self, invocation: _Invocation) -> None:
        if invocation.has_begun:
            return
        invocation.has_begun = True
        invocation.stop = self._of(invocation.thread)
        if invocation.is_single_threaded:
            self._resume(invocation.thread)
        else:
            self._suspension.resume_all()

    def _end(self, invocation: _Invocation) -> None:
        if invocation.is_single_threaded:
            self._suspend(invocation.thread)
        else:
            self._suspension.suspend_all()
        if invocation.stop is not None:
            invocation.stop.mark = self._suspension.mark(invocation.thread)
            self._put(invocation.thread, invocation.stop)
