"""decide(): who may do what, as a table."""

import pytest

from noah.core.session.principal import OPERATORS, Principal, PrincipalKind
from noah.core.session.rights import (
    Allowed,
    Denied,
    Grant,
    Grants,
    Right,
    area_of,
    decide,
)
from noah.core.session.target import HostTarget, LocalTarget, PodTarget

SHOP = "pod/test/shop"


def principal(
    kind: PrincipalKind = PrincipalKind.OIDC, *groups: str, subject: str = "ada", issuer: str = "x"
) -> Principal:
    return Principal(kind=kind, issuer=issuer, subject=subject, name=subject, groups=frozenset(groups))


def is_allowed(action: Right, area: str | None, who: Principal, grants: Grants) -> bool:
    return isinstance(decide(action, area, who, grants), Allowed)


@pytest.mark.parametrize(
    "who", [principal(PrincipalKind.LOCAL), principal(PrincipalKind.TOKEN, OPERATORS)], ids=["own machine", "operator"]
)
@pytest.mark.parametrize("right", list(Right))
@pytest.mark.parametrize("area", [None, SHOP, "pod/test/kube-system", "host/h/app", "local/x"])
def test_the_machines_own_user_and_operators_may_everything(who: Principal, right: Right, area: str | None) -> None:
    assert is_allowed(right, area, who, Grants())


@pytest.mark.parametrize("kind", [kind for kind in PrincipalKind if kind is not PrincipalKind.LOCAL])
@pytest.mark.parametrize("right", [right for right in Right if right is not Right.ANYBODY])
@pytest.mark.parametrize("area", [SHOP, "host/h/app", "local/x"])
def test_without_a_grant_nobody_may_anything(kind: PrincipalKind, right: Right, area: str) -> None:
    assert not is_allowed(right, area, principal(kind, "team"), Grants())


@pytest.mark.parametrize(("answer", "is_certain"), [(False, True), (None, False)])
def test_a_clusters_no_and_its_silence_both_deny(answer: bool | None, is_certain: bool) -> None:
    verdict = decide(Right.DEBUG, SHOP, principal(), Grants(reviewed={Right.DEBUG: answer}))
    assert isinstance(verdict, Denied)
    assert verdict.is_certain is is_certain


def test_a_clusters_yes_holds_for_the_right_that_it_was_asked_about_alone() -> None:
    grants = Grants(reviewed={Right.SEE: True})
    assert is_allowed(Right.SEE, SHOP, principal(), grants)
    assert not is_allowed(Right.DEBUG, SHOP, principal(), grants)


def test_a_refusal_names_the_right_to_ask_for() -> None:
    verdict = decide(Right.DEBUG, SHOP, principal(), Grants(reviewed={Right.DEBUG: False}))
    assert isinstance(verdict, Denied)
    assert "create pods/exec and get pods/exec" in verdict.sentence
    assert "namespace shop of cluster test" in verdict.sentence


def test_a_refusal_of_a_right_on_the_gateway_names_it_as_the_configuration_does() -> None:
    verdict = decide(Right.READ_TRAIL, None, principal(PrincipalKind.TOKEN), Grants())
    assert verdict == Denied(
        "You may not read the gateway's trail: the gateway's configuration grants it, as 'read_trail'."
    )


@pytest.mark.parametrize(
    ("pattern", "area", "matches"),
    [
        ("host/shop-*/*", "host/shop-1/app", True),
        ("host/shop-*/*", "host/other/app", False),
        ("host/*/app", "host/shop-1/app", True),
        ("host/*", "host/shop-1/app", False),  # a star does not reach over a slash
        ("local/*", "local/x", True),
        ("local/*", "host/x/y", False),
        ("pod/test/shop*", "pod/test/shop-a", True),
        ("pod/test/shop*", "pod/prod/shop-a", False),
        ("*", "host/h/app", True),
    ],
)
def test_a_grant_covers_what_its_patterns_match(pattern: str, area: str, matches: bool) -> None:
    grant = Grant(rights=frozenset({Right.DEBUG}), users=frozenset({"ada"}), areas=(pattern,))
    assert is_allowed(Right.DEBUG, area, principal(PrincipalKind.TOKEN), Grants([grant])) is matches


@pytest.mark.parametrize(
    ("area", "environment", "covers"),
    [
        ("host/h/app", "shop-test", True),
        ("local/x", "shop-load", True),
        ("host/h/app", "pay-test", False),
        ("host/h/app", None, False),
        (SHOP, None, False),  # in a cluster, whose RBAC knows no environments
    ],
)
def test_a_grant_by_environment_covers_what_is_in_it_and_in_no_cluster(
    area: str, environment: str | None, *, covers: bool
) -> None:
    grant = Grant(rights=frozenset({Right.DEBUG}), users=frozenset({"ada"}), environments=("shop-*",))
    grants = Grants([grant], environment=environment)
    assert is_allowed(Right.DEBUG, area, principal(PrincipalKind.TOKEN), grants) is covers


def test_whoever_may_do_something_to_a_target_sees_it_and_no_more_than_that_is_implied() -> None:
    grants = Grants([Grant(rights=frozenset({Right.DEBUG}), groups=frozenset({"team"}))])
    who = principal(PrincipalKind.TOKEN, "team")
    assert [right for right in Right if is_allowed(right, "host/h/app", who, grants)] == [
        Right.ANYBODY,
        Right.SEE,
        Right.DEBUG,
    ]


def test_a_right_on_the_gateway_shows_no_target() -> None:
    grants = Grants([Grant(rights=frozenset({Right.OPERATE, Right.READ_TRAIL}), users=frozenset({"ada"}))])
    who = principal(PrincipalKind.TOKEN)
    assert is_allowed(Right.OPERATE, None, who, grants)
    assert is_allowed(Right.READ_TRAIL, None, who, grants)
    assert not is_allowed(Right.SEE, "host/h/app", who, grants)


def test_what_a_cluster_calls_somebody_is_worth_nothing_outside_of_it() -> None:
    grants = Grants([Grant(rights=frozenset({Right.DEBUG}), users=frozenset({"ada"}), groups=frozenset({"team"}))])
    who = principal(PrincipalKind.KUBERNETES, "team", issuer="test")
    assert not is_allowed(Right.DEBUG, "host/h/app", who, grants)
    named = Grants([Grant(rights=frozenset({Right.DEBUG}), users=frozenset({"test:ada"}))])
    assert is_allowed(Right.DEBUG, "host/h/app", who, named)


@pytest.mark.parametrize("answer", [True, False])
def test_nothing_is_debugged_in_a_system_namespace_unless_the_configuration_lists_it(answer: bool) -> None:
    area, reviewed = "pod/test/kube-system", {Right.SEE: answer, Right.DEBUG: answer}
    assert not is_allowed(Right.DEBUG, area, principal(), Grants(reviewed=reviewed))
    assert is_allowed(Right.SEE, area, principal(), Grants(reviewed=reviewed)) is answer
    listed = Grants(reviewed=reviewed, system_namespaces=("kube-system",))
    assert is_allowed(Right.DEBUG, area, principal(), listed) is answer


def test_an_area_is_a_namespace_an_app_on_a_host_or_a_jvm_of_this_machine() -> None:
    assert area_of(PodTarget("test", "shop", "shop-1", "main")) == SHOP
    assert area_of(HostTarget("h", "app")) == "host/h/app"
    assert area_of(LocalTarget("x")) == "local/x"
