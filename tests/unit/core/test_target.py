import pytest
from hypothesis import given
from hypothesis import strategies as st

from noah.core.session.target import (
    HostTarget,
    LocalTarget,
    PodTarget,
    Target,
    Wanted,
    WantedPod,
    parse_target,
    parse_wanted,
)
from noah.core.workload import KINDS_BY_SHORT_NAME, WorkloadKind
from noah.errors import BadInput


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("pod/dev/team-a/shop-1", WantedPod("dev", "team-a", pod="shop-1")),
        ("pod/dev/team-a/shop-1/app", WantedPod("dev", "team-a", pod="shop-1", container="app")),
        ("pod/dev/team-a/deploy/shop", WantedPod("dev", "team-a", workload=(WorkloadKind.DEPLOYMENT, "shop"))),
        (
            "pod/dev/team-a/deploy/shop/app",
            WantedPod("dev", "team-a", workload=(WorkloadKind.DEPLOYMENT, "shop"), container="app"),
        ),
        ("pod/dev/team-a/app=Shop_1", WantedPod("dev", "team-a", app="Shop_1")),
        ("pod/dev/team-a/deploy", WantedPod("dev", "team-a", pod="deploy")),
        ("deploy/shop", WantedPod(workload=(WorkloadKind.DEPLOYMENT, "shop"))),
        ("deploy/shop/app", WantedPod(workload=(WorkloadKind.DEPLOYMENT, "shop"), container="app")),
        *((f"{short}/shop", WantedPod(workload=(kind, "shop"))) for short, kind in KINDS_BY_SHORT_NAME.items()),
        (
            "pod/dev/team-a/sts/db/app",
            WantedPod("dev", "team-a", workload=(WorkloadKind.STATEFUL_SET, "db"), container="app"),
        ),
        ("pod/dev/team-a/job", WantedPod("dev", "team-a", pod="job")),
        ("app=shop", WantedPod(app="shop")),
        ("app=shop/app", WantedPod(app="shop", container="app")),
        ("host/kvm1.test/billing", HostTarget("kvm1.test", "billing")),
        ("local/shop", LocalTarget("shop")),
    ],
)
def test_these_forms_name_something(text: str, wanted: Wanted) -> None:
    assert parse_wanted(text) == wanted
    assert str(wanted) == text


@pytest.mark.parametrize(
    "text",
    ["", "/", "sts", "sts/", "rs/x", "statefulset/x", "job/a/b/c",
     "shop", "pod", "pod/dev", "pod/dev/team-a", "pod/dev/team-a/", "pod/dev/team-a/x/y/z", "pod//team-a/x",
     "deploy", "deploy/", "deploy/a/b/c", "app=", "app=a/b/c", "app=x y", "app=" + "x" * 64, "app=-x",
     "host/kvm1", "host/a/b/c", "local", "local/a/b", "Local/a", "pods/dev/team-a/x",
     "pod/dev/team-a/../../secrets", "local/..", "local/.", "local/-x", "local/x-", "local/X", "local/ä", "local/a b",
     "local/$(reboot)", "local/a;b", "local/a\n", "local/a\0", "local/%2e%2e", "pod/dev/team-a/x/app\n"],
)  # fmt: skip
def test_anything_else_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_wanted(text)
    assert caught.value.sentence.endswith(".")
    assert "\n" not in caught.value.sentence


@pytest.mark.parametrize("text", ["local/" + "x" * 10_000, "x" * 10_000, "pod/" * 2_500])
def test_a_name_of_10_kb_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(BadInput, match="at most 800 characters, this one has 10") as caught:
        parse_wanted(text)
    assert len(caught.value.sentence) < 200


def test_a_name_that_is_too_long_for_a_part_is_shown_shortened() -> None:
    with pytest.raises(BadInput, match="is not a name") as caught:
        parse_wanted("local/" + "x" * 254)
    assert len(caught.value.sentence) < 300


part = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", fullmatch=True) | st.sampled_from(["deploy", "sts", "job"])


@given(
    st.builds(PodTarget, cluster=part, namespace=part, pod=part, container=part)
    | st.builds(HostTarget, host=part, app=part)
    | st.builds(LocalTarget, name=part)
)
def test_a_target_comes_back_from_its_name(target: Target) -> None:
    assert parse_target(str(target)) == target


@pytest.mark.parametrize("text", ["deploy/shop", "app=shop", "pod/dev/team-a/shop-1", "pod/dev/team-a/deploy/shop/app"])
def test_what_may_mean_several_jvms_is_no_target(text: str) -> None:
    with pytest.raises(BadInput, match="does not name one JVM"):
        parse_target(text)


def test_a_stored_name_is_checked_too() -> None:
    with pytest.raises(BadInput, match="is not a name"):
        parse_target("pod/dev/team-a/../app")
