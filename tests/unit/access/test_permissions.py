"""Rights in many namespaces at once: decided once, and not believed for longer than what the cluster said."""

import asyncio
from collections.abc import Mapping
from typing import Any

from noah.access.permissions import Permissions
from noah.access.reviews import ClusterReviews
from noah.core.session.principal import Principal, PrincipalKind
from noah.core.session.rights import Right
from noah.errors import Unavailable
from noah.settings import parse_settings

ADA = Principal(kind=PrincipalKind.OIDC, issuer="x", subject="ada", name="ada")
AREAS = frozenset(f"pod/test/{name}" for name in ("a", "b", "c"))
KEPT_S = 0.3


class Cluster:
    """Lets everybody see some namespaces."""

    def __init__(self, *namespaces: str) -> None:
        self.namespaces = set(namespaces)
        self.asked = 0
        self.is_silent = False

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        self.asked += 1
        if self.is_silent:
            raise Unavailable("It does not answer.")
        return {"status": {"allowed": body["spec"]["resourceAttributes"].get("namespace") in self.namespaces}}

    def permissions(self) -> Permissions:
        reviews = ClusterReviews("test", self.post, kept_s=KEPT_S)
        return Permissions(reviews=lambda _: reviews)


async def test_the_same_areas_are_decided_about_once() -> None:
    cluster = Cluster("a", "b")
    permissions = cluster.permissions()
    first = await permissions.among(AREAS, ADA)
    asked = cluster.asked
    assert first == {"pod/test/a", "pod/test/b"}
    assert await permissions.among(AREAS, ADA) is first
    assert await permissions.among(AREAS | {"pod/test/d"}, ADA) == first
    assert cluster.asked == asked + 1
    assert await permissions.among(AREAS, ADA, Right.DEBUG) == first
    bob = Principal(kind=PrincipalKind.OIDC, issuer="x", subject="bob", name="bob")
    assert await permissions.among(AREAS, bob) == first
    assert cluster.asked > asked + 4


async def test_a_question_about_a_few_areas_does_not_have_all_decided_about_again() -> None:
    permissions = Cluster("a", "b").permissions()
    first = await permissions.among(AREAS, ADA)
    for few in (frozenset[str](), frozenset({"pod/test/a"})):
        assert await permissions.among(few, ADA) == few
        assert await permissions.among(AREAS, ADA) is first


async def test_a_right_that_a_cluster_takes_away_is_not_remembered_for_longer_than_its_answer() -> None:
    cluster = Cluster("a")
    permissions = cluster.permissions()
    assert await permissions.among(AREAS, ADA) == {"pod/test/a"}
    await asyncio.sleep(KEPT_S / 2)
    assert await permissions.among(AREAS | {"pod/test/d"}, ADA) == {"pod/test/a"}  # by the same answers
    cluster.namespaces = {"b"}
    await asyncio.sleep(KEPT_S / 2)
    assert await permissions.among(AREAS, ADA) == {"pod/test/b"}


async def test_silence_is_not_remembered() -> None:
    cluster = Cluster("a")
    permissions = cluster.permissions()
    cluster.is_silent = True
    assert await permissions.among(AREAS, ADA) == frozenset()
    cluster.is_silent = False
    assert await permissions.among(AREAS, ADA) == {"pod/test/a"}


async def test_grants_that_change_count_at_once() -> None:
    permissions = Permissions(reviews=lambda _: None)
    assert await permissions.among(AREAS, ADA) == frozenset()
    grant = {"users": ["ada"], "rights": ["see"], "targets": ["pod/test/b"]}
    permissions.configure(parse_settings({"grants": [grant]}, origin="FILE"))
    assert await permissions.among(AREAS, ADA) == {"pod/test/b"}
