"""A real cluster, asked as the user that a kubeconfig says, by the ways that it says."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from noah.kube.clusters import Cluster
from noah.kube.errors import MissingRight
from noah.kube.exec.commands import Container
from noah.settings import ClusterSettings
from tests.cluster.conftest import Kubectl
from tests.gateway import Refused, serving

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def pod(kubectl: Kubectl) -> Container:
    kubectl.run("orders")
    return Container(kubectl.namespace, "orders", "app")


def tree_of(kubeconfig: Path) -> Any:
    return yaml.safe_load(kubeconfig.read_text())


def acting(kubeconfig: Path, folder: Path, **fields: Any) -> ClusterSettings:
    """The admin's kubeconfig with more in its user."""
    tree = tree_of(kubeconfig)
    for user in tree["users"]:
        user["user"].update(fields)
    (folder / "kubeconfig").write_text(yaml.safe_dump(tree))
    return ClusterSettings(name="real", kubeconfig=folder / "kubeconfig")


async def test_an_admin_who_acts_as_nobody_has_the_rights_of_nobody(
    kubeconfig: Path, pod: Container, tmp_path: Path
) -> None:
    nobody = "system:serviceaccount:kube-system:nobody"
    async with Cluster(acting(kubeconfig, tmp_path, **{"as": nobody})) as cluster:
        refused = f'The gateway may not list pods in cluster "real": grant that to {nobody}.'
        with pytest.raises(MissingRight) as raised:
            await cluster.get("/api/v1/pods")
        assert raised.value.sentence == refused
        assert not await cluster.informer.wait_synced(1)
        assert cluster.reason == refused
        for attempt in (
            cluster.exec.run(pod, ["true"], timeout=60),
            cluster.exec.hold(pod, ["true"], until="x", first_line_timeout=60),
        ):
            with pytest.raises(MissingRight, match=f"pods/exec .* grant that to {nobody}"):
                await attempt
        assert "create pods/exec" in await cluster.missing_rights()
        who = await cluster.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", SELF)
        assert who["status"]["userInfo"]["username"] == nobody


async def test_the_doctor_and_the_listing_say_what_nobody_may_not(
    kubeconfig: Path, pod: Container, tmp_path: Path
) -> None:
    nobody = "system:serviceaccount:kube-system:nobody"
    known = acting(kubeconfig, tmp_path, **{"as": nobody})
    config = f'[[clusters]]\nname = "real"\nkubeconfig = "{known.kubeconfig}"\n'
    async with serving(tmp_path, config) as (process, api):
        process.env["NOAH_URL"] = process.url
        code, said = await process.noah("doctor")
        assert code != 0
        assert "The gateway lacks the right to list pods." in said
        assert "has all the rights" not in said
        _, listed = await process.noah("targets")
        assert pod.pod not in listed
        with pytest.raises(Refused) as refused:
            await api.enable(f"pod/real/{pod.namespace}/{pod.pod}/{pod.name}")
        assert f"grant that to {nobody}" in str(refused.value.problem)


async def test_an_admin_who_acts_as_somebody_with_rights_has_those(
    kubeconfig: Path, kubectl: Kubectl, pod: Container, tmp_path: Path
) -> None:
    kubectl("create", "rolebinding", "jane", "--clusterrole=admin", "--user=jane")
    known = acting(kubeconfig, tmp_path, **{"as": "jane"})
    async with Cluster(known.model_copy(update={"namespaces": (kubectl.namespace,)})) as cluster:
        assert await cluster.informer.wait_synced(10)
        assert cluster.informer.get(kubectl.namespace, "orders") is not None
        assert (await cluster.exec.run(pod, ["echo", "hi"], timeout=60)).stdout == b"hi\n"
        with pytest.raises(MissingRight, match="grant that to jane"):
            await cluster.get("/api/v1/nodes")


async def test_groups_a_uid_and_extras_arrive(kubeconfig: Path, tmp_path: Path) -> None:
    known = acting(
        kubeconfig,
        tmp_path,
        **{"as": "jane", "as-uid": "7", "as-groups": ["dev", "ops"], "as-user-extra": {"example.com/a b": ["x", "y"]}},
    )
    async with Cluster(known) as cluster:
        who = (await cluster.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", SELF))["status"]["userInfo"]
    assert (who["username"], who["uid"]) == ("jane", "7")
    assert {"dev", "ops"} <= set(who["groups"])
    assert who["extra"]["example.com/a b"] == ["x", "y"]


async def test_nobody_who_may_not_act_as_another_does(kubeconfig: Path, kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl("create", "serviceaccount", "plain")
    tree = tree_of(kubeconfig)
    for user in tree["users"]:
        user["user"] = {"token": kubectl("create", "token", "plain").strip(), "as": "system:admin"}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(tree))
    async with Cluster(ClusterSettings(name="real", kubeconfig=tmp_path / "kubeconfig")) as cluster:
        with pytest.raises(MissingRight, match=f"may not impersonate users .*{kubectl.namespace}:plain"):
            await cluster.get("/api/v1/pods")


async def test_several_files_make_one_kubeconfig(kubeconfig: Path, tmp_path: Path) -> None:
    tree = tree_of(kubeconfig)
    parts = [{name: tree[name]} for name in ("clusters", "users", "contexts", "current-context")]
    for number, part in enumerate(parts):
        (tmp_path / str(number)).write_text(yaml.safe_dump(part))
    paths = ":".join(str(tmp_path / str(number)) for number in range(len(parts) + 1))  # and one that is missing
    async with Cluster(ClusterSettings(name="real", kubeconfig=Path(paths))) as cluster:
        assert (await cluster.get("/version"))["gitVersion"]


SELF = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
