"""What is known of a command on a host when it has ended, or has not."""

from dataclasses import dataclass

from noah.errors import Unavailable


class TookTooLong(Unavailable):
    """The host did not answer in time; its connection may be intact."""


@dataclass(frozen=True, slots=True)
class Ran:
    code: int | None  # None: it was ended by a signal
    stdout: bytes
    stderr: bytes

    @property
    def said(self) -> str:
        """Return its last line, for a sentence."""
        lines = (self.stderr.strip() or self.stdout.strip()).decode("utf-8", "replace").splitlines()
        return lines[-1][:300] if lines else "it said nothing"
