"""Whether the whole VM stands still for certain, and which threads do, seen from beside the JVM.

Only what is certain counts, so this knows less than `stops`: it does not count suspends. A stop is believed once the
JVM says that the stop's thread is suspended after all resumes that may have met it: the JVM suspends before it sends
the event, and a resume may come in between.

How it is fed: every command that passes, before it passes; every reply; every composite of events.
"""

from collections import Counter
from enum import Enum, auto
from typing import Final

from noah.core.jdwp import wire
from noah.core.jdwp.cache import Effect, effect_of
from noah.core.jdwp.commands import INVOKES

_MOST_LOOSE: Final = 16  # threads that were resumed one by one
_MOST_DOUBTS: Final = 64  # threads that stopped and are not asked about yet
_MOST_HELD: Final = 256  # threads that are suspended one by one


class _Open(Enum):
    """The effect of a command that is not answered yet."""

    RESUME = auto()
    INVOKE = auto()
    CHANGE = auto()
    SUSPEND = auto()


class Stillness:
    def __init__(self) -> None:
        self.epoch = 0  # changes with every effect and every event
        self.effects = 0  # changes with every effect: both ends count the same ones
        self.class_effects = 0  # the same for those on classes
        self._is_stopped = False
        self._held: set[int] = set()
        self._resumes = 0
        self._open: dict[int, tuple[_Open, int]] = {}  # by packet ID, with the number of resumes before it
        self._open_kinds: Counter[_Open] = Counter()
        self._doubts: dict[int, int] = {}  # threads that stopped, with the policy, until the JVM confirms it
        self._asked: set[int] = set()  # threads whose suspend count the JVM is asked for
        self._loose: set[int] = set()  # resumed one by one since the VM was
        self._is_uncertain = False  # threads may have been resumed or suspended one by one, and which is not known

    @property
    def is_settled(self) -> bool:
        """True if no command that has an effect is under way."""
        return not self._open

    @property
    def is_still(self) -> bool:
        return self._is_stopped and not self._open

    def holds(self, thread: int) -> bool:
        return not self._open and (self._is_stopped or thread in self._held)

    @property
    def holds_any(self) -> bool:
        return not self._open and (self._is_stopped or bool(self._held))

    # What passes

    def command(self, packet_id: int, number: int, payload: bytes) -> Effect:
        effect = effect_of(number, payload)
        if effect:
            self.epoch += 1
            self.effects += 1
            self.class_effects += Effect.CLASSES in effect
        if Effect.RESUMES in effect:
            self._resume(number, payload)
            self._await(packet_id, _Open.RESUME)
        elif number in INVOKES:
            self._await(packet_id, _Open.INVOKE)
        elif effect:
            self._await(packet_id, _Open.CHANGE)
        elif number == wire.VM_SUSPEND:
            self._await(packet_id, _Open.SUSPEND)
        elif number == wire.THREAD_SUSPEND:
            # A thread's count then says less of the VM's.
            self._is_uncertain = self._is_uncertain or not self._is_stopped
        return effect

    def _await(self, packet_id: int, kind: _Open) -> None:
        self._close(packet_id)
        self._open[packet_id] = kind, self._resumes
        self._open_kinds[kind] += 1

    def _close(self, packet_id: int) -> tuple[_Open, int] | None:
        one = self._open.pop(packet_id, None)
        if one is not None:
            self._open_kinds[one[0]] -= 1
        return one

    def _resume(self, number: int, payload: bytes) -> None:
        self._resumes += 1
        self._is_stopped = False
        self._held.clear()
        self._doubts.clear()
        self._asked.clear()
        if number == wire.VM_RESUME:
            self._loose.clear()
            self._is_uncertain = False
        elif number == wire.THREAD_RESUME and len(payload) == 8 and len(self._loose) < _MOST_LOOSE:
            self._loose.add(int.from_bytes(payload))
        else:
            self._is_uncertain = True

    def replied(self, packet_id: int, error: int) -> None:
        one = self._close(packet_id)
        if one == (_Open.SUSPEND, self._resumes) and not error and not self._is_busy():
            self._stop()

    def stopped(self, policy: int, thread: int | None) -> None:
        """The JVM sent events, and suspended by *policy* for them; *thread* is theirs."""
        self.epoch += 1
        if policy == wire.NO_ONE:
            return
        if self._open_kinds[_Open.INVOKE]:
            # In the middle of an invoked method; what is suspended at its end is not followed.
            self._is_stopped = False
            self._held.clear()
            self._is_uncertain = True
        elif not self._is_stopped and thread is not None and len(self._doubts) < _MOST_DOUBTS:
            self._doubts[thread] = policy

    # What has to be asked

    def take_doubts(self) -> list[int]:
        """Return threads whose suspend counts the JVM should be asked for now, in this order."""
        if not self._doubts or self._is_uncertain or self._is_busy() or self._is_stopped:
            return []
        threads = [*self._loose - self._asked]
        threads += [thread for thread in self._doubts if thread not in self._asked and thread not in self._loose]
        self._asked.update(threads)
        return threads

    def counted(self, thread: int, count: int | None) -> None:
        """The JVM says how often *thread* is suspended; None: there is no such thread."""
        if thread not in self._asked:
            return  # it was asked before something else happened
        if self._is_busy():
            self._asked.discard(thread)
            return
        if count is None or (count and thread in self._loose):
            self._loose.discard(thread)
        policy = self._doubts.get(thread)
        if policy is None:
            return
        if not count:
            del self._doubts[thread]
        elif policy == wire.EVENT_THREAD:
            del self._doubts[thread]
            if len(self._held) < _MOST_HELD:
                self._held.add(thread)
        elif not self._loose and not self._is_uncertain:
            self._stop()

    def _stop(self) -> None:
        self.epoch += 1
        self._is_stopped = True
        self._doubts.clear()
        self._asked.clear()
        self._loose.clear()
        self._is_uncertain = False

    def _is_busy(self) -> bool:
        return bool(self._open_kinds[_Open.RESUME] or self._open_kinds[_Open.INVOKE])
