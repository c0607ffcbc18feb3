"""How long a gateway may act for the sessions that it runs: the arithmetic of its lease.

A lease is kept by the database's clock and believed by the gateway's own. The gateway counts from the moment in which
it began the renewal, which is before the database counted, and stops MARGIN_S early. So it has stopped before another
gateway may begin, whatever the clocks of the machines show. What is assumed of a gateway's clock: it counts seconds,
also while the process or the machine is stopped.

A gateway whose lease has ended is dead from the moment in which its row is deleted, which any other may do, and not
before. As long as the row is there, nobody has taken anything from it, so a renewal that comes late is as good as one
in time. IDs are never used twice.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import Final

LEASE_S: Final = 10.0  # a killed gateway's sessions are without one for so long
MARGIN_S: Final = 3.0  # for acts that have begun: a command that was sent, a file that is being written
RENEW_EVERY_S: Final = 2.0  # two renewals may fail
ENDED_AFTER_S: Final = 0.05  # its end is looked at a little later
# When the database was away, all leases have ended by its clock: each gateway gets so long to come back before another
# declares it dead.
GRACE_S: Final = 6.0


@dataclass(frozen=True, slots=True)
class Fence:
    """The right of one gateway to run one session. The database refuses a write with another than the present one."""

    gateway: str
    number: int  # counts the gateways that the session has had


@dataclass(frozen=True, slots=True)
class Belief:
    """A gateway's knowledge of its lease, in seconds of its own clock."""

    until: float = -inf
    since: float = inf  # it has been held without a gap

    def renewed(self, *, began: float) -> "Belief":
        """Return the belief after a renewal that was begun at *began* and succeeded."""
        return Belief(until=began + LEASE_S - MARGIN_S, since=self.since if began < self.until else began)

    def is_held(self, now: float) -> bool:
        return now < self.until

    def has_ended(self, now: float) -> bool:
        """Return whether the lease may have ended for the database, so that another gateway may begin."""
        return now >= self.until + MARGIN_S

    def may_declare_dead(self, now: float) -> bool:
        """Return whether it has been held for so long that the database was not away for the others either."""
        return self.is_held(now) and now >= self.since + GRACE_S


def renew_after(left_s: Iterable[float]) -> float:
    """Return the pause before the next renewal; *left_s*: of the leases of all gateways, as the last one showed.

    One that ends before that is looked at again when it has, so that its sessions do not wait longer.
    """
    return min([RENEW_EVERY_S, *(left + ENDED_AFTER_S for left in left_s if left > 0)])


def fair_share(free: int, gateways: int) -> int:
    """Return how many of *free* sessions one of *gateways* takes at once, so that all of them get some."""
    return max(-(-free // max(gateways, 1)), min(free, 5))
