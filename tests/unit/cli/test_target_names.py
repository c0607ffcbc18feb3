"""What a name on the command line means, as a table."""

import pytest

from noah.cli.target_names import expand, means
from noah.core.session.target import parse_wanted
from noah.errors import BadInput


@pytest.mark.parametrize(
    ("typed", "cluster", "namespace", "name"),
    [
        ("pod/dev/team-a/shop-1", None, None, "pod/dev/team-a/shop-1"),
        ("pod/dev/team-a/shop-1/app", None, None, "pod/dev/team-a/shop-1/app"),
        ("local/orders", None, None, "local/orders"),
        ("host/kvm1/orders", None, None, "host/kvm1/orders"),
        ("deploy/shop", None, None, "deploy/shop"),
        ("app=shop", None, None, "app=shop"),
        ("deploy/shop", "dev", "team-a", "pod/dev/team-a/deploy/shop"),
        ("deploy/shop/app", "dev", "team-a", "pod/dev/team-a/deploy/shop/app"),
        ("app=shop", "dev", "team-a", "pod/dev/team-a/app=shop"),
        ("pod/shop-1", "dev", "team-a", "pod/dev/team-a/shop-1"),
        ("pod/shop-1/app", "dev", "team-a", "pod/dev/team-a/shop-1/app"),
        ("shop-1", "dev", "team-a", "pod/dev/team-a/shop-1"),
        # kubectl's other words for the same
        ("deployment.apps/shop", None, None, "deploy/shop"),
        ("deployments/shop", "dev", "team-a", "pod/dev/team-a/deploy/shop"),
        ("statefulsets.apps/db", "dev", "team-a", "pod/dev/team-a/sts/db"),
        ("DaemonSet/agent", None, None, "ds/agent"),
        ("jobs/nightly/app", "dev", "team-a", "pod/dev/team-a/job/nightly/app"),
        ("rollouts.argoproj.io/shop", None, None, "rollout/shop"),
        ("po/shop-1", "dev", "team-a", "pod/dev/team-a/shop-1"),
    ],
)
def test_a_short_name_is_looked_for_where_the_options_say(
    typed: str, cluster: str | None, namespace: str | None, name: str
) -> None:
    assert expand(typed, cluster=cluster, namespace=namespace) == name
    assert str(parse_wanted(name)) == name


@pytest.mark.parametrize(
    ("typed", "cluster", "namespace", "said"),
    [
        ("pod/dev/team-a/shop-1", "dev", None, "leave out --cluster and -n"),
        ("local/orders", None, "team-a", "leave out --cluster and -n"),
        ("deploy/shop", "dev", None, "with -n"),
        ("pod/shop-1", None, None, "with --cluster and -n"),
    ],
)
def test_half_a_place_is_refused_with_what_is_missing(
    typed: str, cluster: str | None, namespace: str | None, said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        expand(typed, cluster=cluster, namespace=namespace)


SESSION = {"id": "s1", "target": "pod/dev/team-a/shop-1/app", "app": "shop", "workload": "Deployment/shop"}


@pytest.mark.parametrize(
    ("name", "is_meant"),
    [
        ("pod/dev/team-a/shop-1/app", True),
        ("pod/dev/team-a/shop-1", True),
        ("pod/dev/team-a/shop-1/sidecar", False),
        ("pod/dev/team-b/shop-1", False),
        ("pod/test/team-a/shop-1", False),
        ("deploy/shop", True),
        ("pod/dev/team-a/deploy/shop", True),
        ("pod/test/team-a/deploy/shop", False),
        ("deploy/shop-1", False),
        ("app=shop", True),
        ("app=orders", False),
        ("local/shop", False),
    ],
)
def test_a_session_is_meant_by_its_pod_its_deployment_and_its_app(name: str, is_meant: bool) -> None:
    assert means(parse_wanted(name), SESSION) is is_meant


@pytest.mark.parametrize(("name", "is_meant"), [("sts/db", True), ("deploy/db", False), ("sts/other", False)])
def test_a_session_is_meant_by_its_workload_of_any_kind(name: str, is_meant: bool) -> None:
    session = {"id": "s3", "target": "pod/dev/team-a/db-0/app", "app": "db", "workload": "StatefulSet/db"}
    assert means(parse_wanted(name), session) is is_meant


def test_a_local_session_is_meant_by_its_own_name_only() -> None:
    session = {"id": "s2", "target": "local/orders", "app": "orders", "workload": None}
    assert means(parse_wanted("local/orders"), session)
    assert not means(parse_wanted("local/other"), session)
    assert not means(parse_wanted("deploy/orders"), session)


@pytest.mark.parametrize("target", ["host/kvm-1/orders", "local/orders"])
def test_a_session_on_a_host_is_meant_by_its_app_where_no_namespace_is_said(target: str) -> None:
    session = {"id": "s4", "target": target, "app": "orders", "workload": None}
    assert means(parse_wanted("app=orders"), session)
    assert not means(parse_wanted("app=shop"), session)
    assert not means(parse_wanted("app=orders/sidecar"), session)
    assert not means(parse_wanted("pod/dev/team-a/app=orders"), session)
