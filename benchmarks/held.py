"""What holds an event loop: the stacks of its thread in turns that take long, in processor time."""

import gc
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Sequence

LOOK_INTERVAL_S = 0.002
MOST_FRAMES = 14


class Held:
    """Made in the loop's thread, which calls beat() every few milliseconds."""

    def __init__(self, *, longer_than_s: float) -> None:
        self._longer_than_s = longer_than_s
        self._thread = threading.get_ident()
        self._clock = time.pthread_getcpuclockid(self._thread)
        self._beat_at = self._collecting_since = time.thread_time()
        self._seen: Counter[str] = Counter()
        gc.callbacks.append(self._collected)
        threading.Thread(target=self._look, name="what holds the loop", daemon=True).start()

    def beat(self) -> None:
        self._beat_at = time.thread_time()

    def report(self) -> Sequence[tuple[str, int]]:
        """Return what was seen since the last report, and how often, the most frequent first."""
        seen, self._seen = self._seen, Counter()
        return seen.most_common()

    def _look(self) -> None:
        while True:
            time.sleep(LOOK_INTERVAL_S)
            if time.clock_gettime(self._clock) - self._beat_at > self._longer_than_s:
                frames = reversed(traceback.extract_stack(sys._current_frames()[self._thread], MOST_FRAMES))
                self._seen[" < ".join(f"{one.filename}:{one.lineno} {one.name}" for one in frames)] += 1

    def _collected(self, phase: str, info: dict[str, int]) -> None:
        if threading.get_ident() != self._thread:
            return
        now = time.thread_time()
        if phase == "start":
            self._collecting_since = now
        elif now - self._collecting_since > self._longer_than_s:
            self._seen[f"a garbage collection of generation {info['generation']}"] += 1
