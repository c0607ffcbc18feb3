"""Two gateways never act at once for one session, however slow their statements are and wherever they stand still.

A model of the database and two gateways: each step is something that may happen at any moment, and each gateway has a
clock of its own that started anywhere.
"""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from noah.core.lease import GRACE_S, LEASE_S, MARGIN_S, RENEW_EVERY_S, Belief, fair_share, renew_after


@dataclass
class Gateway:
    name: int
    offset: float  # of its clock from the true time
    id: int
    belief: Belief = field(default_factory=Belief)
    sent: float | None = None  # by its clock; the renewal that is on its way to the database
    done: float | None = None  # by its clock: when the renewal was sent whose answer is on its way back
    lost: bool = False  # what that answer says


class LeaseModel(RuleBasedStateMachine):
    """The database counts true time. Rows are what it has; dead IDs are those whose rows were deleted."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0
        self.ids = 2
        self.gateways = [Gateway(0, 0.0, 0), Gateway(1, 5000.0, 1)]
        self.rows: dict[int, float] = {}  # lease_until by ID
        self.owner: int | None = None  # the ID that has the session
        self.died_at: dict[int, float] = {}

    @rule(seconds=st.floats(0, 12))
    def time_passes(self, seconds: float) -> None:
        self.time += seconds

    @rule(n=st.sampled_from([0, 1]))
    def it_sends_a_renewal(self, n: int) -> None:
        one = self.gateways[n]
        if one.sent is None and one.done is None:
            one.sent = self.time + one.offset

    @rule(n=st.sampled_from([0, 1]))
    def the_database_executes_it(self, n: int) -> None:
        one = self.gateways[n]
        if one.sent is None:
            return
        one.done, one.sent = one.sent, None
        one.lost = one.id in self.died_at
        if not one.lost:
            self.rows[one.id] = self.time + LEASE_S

    @rule(n=st.sampled_from([0, 1]))
    def the_answer_arrives(self, n: int) -> None:
        one = self.gateways[n]
        if one.done is None:
            return
        if one.lost:
            one.id, one.belief, self.ids = self.ids, Belief(), self.ids + 1
        else:
            one.belief = one.belief.renewed(began=one.done)
        one.done = None

    @rule(n=st.sampled_from([0, 1]))
    def it_declares_the_dead(self, n: int) -> None:
        one = self.gateways[n]
        if one.belief.may_declare_dead(self.time + one.offset):
            for id, until in list(self.rows.items()):
                if until <= self.time:
                    del self.rows[id]
                    self.died_at[id] = self.time

    @precondition(lambda self: self.owner is None or self.owner not in self.rows)
    @rule(n=st.sampled_from([0, 1]))
    def it_takes_the_session(self, n: int) -> None:
        one = self.gateways[n]
        if one.belief.is_held(self.time + one.offset):
            self.owner = one.id

    @invariant()
    def who_was_declared_dead_had_stopped_long_before(self) -> None:
        for one in self.gateways:
            if one.id in self.died_at:
                assert not one.belief.is_held(self.died_at[one.id] - MARGIN_S + 1e-6 + one.offset)

    @invariant()
    def nobody_acts_but_the_owner(self) -> None:
        acting = [one.id for one in self.gateways if one.belief.is_held(self.time + one.offset)]
        assert self.owner is None or [id for id in acting if id not in self.rows] == []


TestLease = LeaseModel.TestCase
TestLease.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


def test_a_gateway_waits_for_the_others_after_the_database_was_away() -> None:
    belief = Belief().renewed(began=100.0)
    assert belief.is_held(100.0 + LEASE_S - MARGIN_S - 0.1)
    assert not belief.is_held(100.0 + LEASE_S - MARGIN_S)
    late = belief.renewed(began=200.0)  # after a gap
    assert not late.may_declare_dead(200.0 + GRACE_S - 0.1)
    assert late.renewed(began=204.0).may_declare_dead(200.0 + GRACE_S)


def test_what_is_free_is_shared_out() -> None:
    assert [fair_share(free, 3) for free in (0, 1, 4, 30, 31)] == [0, 1, 4, 10, 11]
    assert fair_share(100, 0) == 100


def test_a_lease_that_ends_soon_is_looked_at_when_it_has_ended() -> None:
    assert renew_after([LEASE_S]) == renew_after([]) == RENEW_EVERY_S
    assert 1.2 < renew_after([LEASE_S, 1.2, 1.9]) < 1.5
    assert renew_after([LEASE_S, -0.1, 0.0]) == RENEW_EVERY_S  # it has been looked at
