from datetime import UTC, datetime, timedelta

from noah.catalog.holders import Holders
from noah.core.session.principal import Principal
from noah.core.session.session import Session
from noah.core.session.target import LocalTarget, PodTarget, Target
from tests.principals import ADA, BOB

SHOP, ORDERS = LocalTarget("shop"), LocalTarget("orders")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def session(id: str, target: Target, owner: Principal, *, app: str = "shop") -> Session:
    return Session(
        id=id,
        target=target,
        workload=None,
        app=app,
        environment="",
        owner=owner,
        port=20000,
        created_at=NOW,
        expires_at=NOW + timedelta(hours=2),
        allow=(),
    )


def test_a_session_that_follows_its_workload_holds_only_the_new_target() -> None:
    holders = Holders()
    holders.put(session("s1", SHOP, ADA))
    holders.put(session("s1", ORDERS, ADA))
    assert list(holders.targets) == [ORDERS]
    assert (holders.session_on(SHOP), holders.session_on(ORDERS)) == (None, "s1")


def test_a_session_that_is_cleared_away_late_does_not_free_the_target_of_the_next_one() -> None:
    holders = Holders()
    holders.put(session("s1", SHOP, ADA))
    holders.put(session("s2", SHOP, ADA))
    holders.remove("s1")
    assert holders.session_on(SHOP) == "s2"
    holders.remove("s2")
    holders.remove("s2")
    assert list(holders.targets) == []


def test_sessions_on_one_target_may_be_cleared_away_in_any_order() -> None:
    holders = Holders()
    holders.put(session("s1", SHOP, ADA))
    holders.put(session("s2", SHOP, ADA))
    holders.remove("s2")
    holders.remove("s1")
    assert list(holders.targets) == []


def test_a_session_that_is_handed_over_is_found_by_its_new_owner_only() -> None:
    holders = Holders()
    holders.put(session("s1", SHOP, ADA))
    holders.put(session("s2", ORDERS, ADA))
    assert sorted(holders.sessions_of(ADA)) == ["s1", "s2"]
    holders.put(session("s1", SHOP, BOB))
    assert (holders.sessions_of(ADA), holders.sessions_of(BOB)) == (("s2",), ("s1",))
    assert holders.session_on(SHOP) == "s1"
    holders.remove("s1")
    assert holders.sessions_of(BOB) == ()


def test_the_sessions_of_an_app_or_a_namespace_are_found_without_the_others() -> None:
    holders, pods = Holders(), [PodTarget("c", "team", f"pod-{n}", "app") for n in range(3)]
    for number, pod in enumerate(pods):
        holders.put(session(f"s{number}", pod, ADA, app="orders"))
    holders.put(session("other", PodTarget("c", "other", "pod", "app"), ADA))
    holders.put(session("local", SHOP, ADA))
    assert sorted(holders.sessions_in("c", "team")) == ["s0", "s1", "s2"]
    assert set(holders.targets_in("c", "team")) == set(holders.targets_of("orders")) == set(pods)
    moved = PodTarget("d", "team", "pod-0", "app")
    holders.put(session("s0", moved, ADA, app="orders"))
    holders.remove("s1")
    assert list(holders.sessions_in("c", "team")) == ["s2"]
    assert set(holders.targets_of("orders")) == {moved, pods[2]}
