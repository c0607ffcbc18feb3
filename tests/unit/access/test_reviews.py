"""Reviews: what a cluster is asked, for whom, and what is remembered of its answers."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from noah.access.reviews import ClusterReviews
from noah.core.session.principal import Principal, PrincipalKind
from noah.core.session.rights import Right
from noah.errors import Unavailable


class Cluster:
    """Answers reviews by what it is to allow: (verb, resource/subresource, namespace)."""

    def __init__(self, *allowed: tuple[str, str, str]) -> None:
        self.allowed = set(allowed)
        self.asked: list[Mapping[str, Any]] = []
        self.silent = False

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append(body["spec"])
        await asyncio.sleep(0)
        if self.silent:
            raise Unavailable("It does not answer.")
        what = body["spec"]["resourceAttributes"]
        resource = f"{what['resource']}/{what['subresource']}" if what["subresource"] else what["resource"]
        return {"status": {"allowed": (what["verb"], resource, what.get("namespace", "")) in self.allowed}}


def person(
    kind: PrincipalKind = PrincipalKind.OIDC, subject: str = "ada", *groups: str, issuer: str = "x"
) -> Principal:
    return Principal(kind=kind, issuer=issuer, subject=subject, name=subject, groups=frozenset(groups))


async def test_to_debug_takes_create_and_get() -> None:
    cluster = Cluster(("create", "pods/exec", "a"), ("create", "pods/exec", "b"), ("get", "pods/exec", "b"))
    reviews = ClusterReviews("test", cluster.post)
    assert await reviews.may(person(), Right.DEBUG, "a") is False
    assert await reviews.may(person(), Right.DEBUG, "b") is True


async def test_an_answer_is_remembered_and_silence_is_not() -> None:
    cluster = Cluster(("get", "pods", "a"))
    reviews = ClusterReviews("test", cluster.post)
    cluster.silent = True
    assert await reviews.may(person(), Right.SEE, "a") is None
    cluster.silent = False
    assert await reviews.may(person(), Right.SEE, "a") is True
    asked = len(cluster.asked)
    assert await reviews.may(person(), Right.SEE, "a") is True
    assert len(cluster.asked) == asked


async def test_a_right_everywhere_costs_one_review_for_all_namespaces() -> None:
    cluster = Cluster(("get", "pods", ""))
    reviews = ClusterReviews("test", cluster.post)
    assert all(await asyncio.gather(*(reviews.may(person(), Right.SEE, f"n{i}") for i in range(500))))
    assert len(cluster.asked) == 1


async def test_many_who_ask_the_same_at_once_cost_one_review() -> None:
    cluster = Cluster(("get", "pods", "a"))
    reviews = ClusterReviews("test", cluster.post)
    assert all(await asyncio.gather(*(reviews.may(person(), Right.SEE, "a") for _ in range(100))))
    assert len(cluster.asked) == 2  # everywhere, and in the namespace


async def test_what_is_known_of_one_person_is_not_anothers() -> None:
    cluster = Cluster(("get", "pods", "a"))
    reviews = ClusterReviews("test", cluster.post)
    assert await reviews.may(person(), Right.SEE, "a") is True
    cluster.allowed.clear()
    assert await reviews.may(person(PrincipalKind.OIDC, "grace"), Right.SEE, "a") is False
    assert await reviews.may(person(PrincipalKind.OIDC, "ada", "more"), Right.SEE, "a") is False


async def test_a_cluster_is_asked_with_its_own_prefixes_and_for_what_every_user_may() -> None:
    cluster = Cluster()
    reviews = ClusterReviews("test", cluster.post, user_prefix="oidc:", group_prefix="g:")
    await reviews.may(person(PrincipalKind.OIDC, "ada", "team"), Right.SEE, "a")
    assert cluster.asked[0]["user"] == "oidc:ada"
    assert cluster.asked[0]["groups"] == ["g:team", "system:authenticated"]


@pytest.mark.parametrize(
    "stranger",
    [
        person(PrincipalKind.TOKEN),
        person(PrincipalKind.CLAIMED),
        person(PrincipalKind.KUBERNETES, issuer="another"),
        person(PrincipalKind.OIDC, "system:admin"),
    ],
    ids=["token", "claimed", "of another cluster", "system:"],
)
async def test_a_cluster_is_not_asked_about_whom_it_cannot_know(stranger: Principal) -> None:
    cluster = Cluster(("get", "pods", "a"))
    reviews = ClusterReviews("test", cluster.post)
    assert reviews.user_of(stranger) is None
    assert await reviews.may(stranger, Right.SEE, "a") is False
    assert cluster.asked == []


async def test_a_group_that_only_a_cluster_gives_is_left_out() -> None:
    reviews = ClusterReviews("test", Cluster().post)
    assert reviews.user_of(person(PrincipalKind.PROXY, "ada", "system:masters")) == ("ada", ("system:authenticated",))
