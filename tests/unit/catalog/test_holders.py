from noah.catalog.holders import Holders
from noah.core.session.target import LocalTarget
from tests.principals import ADA, BOB

SHOP, ORDERS = LocalTarget("shop"), LocalTarget("orders")


def test_a_session_that_follows_its_workload_holds_only_the_new_target() -> None:
    holders = Holders()
    holders.put("s1", SHOP, ADA)
    holders.put("s1", ORDERS, ADA)
    assert list(holders.targets) == [ORDERS]
    assert (holders.session_on(SHOP), holders.session_on(ORDERS)) == (None, "s1")


def test_a_session_that_is_cleared_away_late_does_not_free_the_target_of_the_next_one() -> None:
    holders = Holders()
    holders.put("s1", SHOP, ADA)
    holders.put("s2", SHOP, ADA)
    holders.remove("s1")
    assert holders.session_on(SHOP) == "s2"
    holders.remove("s2")
    holders.remove("s2")
    assert list(holders.targets) == []


def test_sessions_on_one_target_may_be_cleared_away_in_any_order() -> None:
    holders = Holders()
    holders.put("s1", SHOP, ADA)
    holders.put("s2", SHOP, ADA)
    holders.remove("s2")
    holders.remove("s1")
    assert list(holders.targets) == []


def test_a_session_that_is_handed_over_is_found_by_its_new_owner_only() -> None:
    holders = Holders()
    holders.put("s1", SHOP, ADA)
    holders.put("s2", ORDERS, ADA)
    assert sorted(holders.sessions_of(ADA)) == ["s1", "s2"]
    holders.put("s1", SHOP, BOB)
    assert (holders.sessions_of(ADA), holders.sessions_of(BOB)) == (("s2",), ("s1",))
    assert holders.session_on(SHOP) == "s1"
    holders.remove("s1")
    assert holders.sessions_of(BOB) == ()
