"""Lines of a log that is read again from somewhere before its end: which of them are new."""


class Seen:
    """How far a log has been read. Lines of one time are told apart by their number."""

    def __init__(self) -> None:
        self.at = ""
        self._count = 0
        self._again = 0

    def reconnected(self) -> None:
        self._again = 0

    def is_new(self, at: str) -> bool:
        if at < self.at:
            return False
        if at > self.at:
            self.at, self._count, self._again = at, 1, 1
            return True
        self._again += 1
        if self._again <= self._count:
            return False
        self._count += 1
        return True
