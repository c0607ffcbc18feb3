from noah.catalog.holders import Holders
from noah.core.session.target import LocalTarget

SHOP, ORDERS = LocalTarget("shop"), LocalTarget("orders")


def test_a_session_that_follows_its_workload_holds_only_the_new_target() -> None:
    holders = Holders()
    holders.put("s1", SHOP)
    holders.put("s1", ORDERS)
    assert list(holders.targets) == [ORDERS]
    assert (holders.session_on(SHOP), holders.session_on(ORDERS)) == (None, "s1")


def test_a_session_that_is_cleared_away_late_does_not_free_the_target_of_the_next_one() -> None:
    holders = Holders()
    holders.put("s1", SHOP)
    holders.put("s2", SHOP)
    holders.remove("s1")
    assert holders.session_on(SHOP) == "s2"
    holders.remove("s2")
    holders.remove("s2")
    assert list(holders.targets) == []


def test_sessions_on_one_target_may_be_cleared_away_in_any_order() -> None:
    holders = Holders()
    holders.put("s1", SHOP)
    holders.put("s2", SHOP)
    holders.remove("s2")
    holders.remove("s1")
    assert list(holders.targets) == []
