"""Finds the new lines of a log that is read again from somewhere before its end."""


class LogCursor:
    """Drops lines already read after a reconnect.

    The order of the lines repeats; their times may go backwards, because a container's two outputs are stamped apart.
    """

    def __init__(self) -> None:
        self.since = ""  # the newest second; what is read again may begin there, or before
        self._newest = ""
        self._count = 0  # lines since that second
        self._again: int | None = None  # of these, how many have come again; None: all, or there was no cut

    def reconnected(self) -> None:
        self._again = 0

    def is_new(self, at: str) -> bool:
        if self._again is not None and self._came_before(at):
            return False
        self._again = None
        if at[:19] > self.since:
            self.since, self._count = at[:19], 0
        self._count += at[:19] == self.since
        self._newest = max(at, self._newest)
        return True

    def _came_before(self, at: str) -> bool:
        assert self._again is not None
        if at[:19] < self.since:
            return True
        # What is kept of the log may begin later by now: then nothing of that second comes again.
        if at > self._newest or self._again >= self._count:
            return False
        self._again += 1
        return True
