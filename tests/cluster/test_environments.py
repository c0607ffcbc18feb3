"""Environments of real namespaces: named by a label of theirs, and deleted while somebody debugs in one."""

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import Kubectl, until
from tests.gateway import Api, Refused, serving

pytestmark = [pytest.mark.cluster, pytest.mark.jvm]

LABEL = "noah.test/environment"


@pytest.fixture
def named(kubeconfig: Path) -> Iterator[Kubectl]:
    """A namespace that its test may delete."""
    kubectl = Kubectl(kubeconfig, f"noah-test-{uuid.uuid4().hex[:8]}")
    kubectl("create", "namespace", kubectl.namespace)
    try:
        until(lambda: "default" in kubectl("get", "serviceaccounts", "-o", "name"))
        yield kubectl
    finally:
        kubectl("delete", "namespace", kubectl.namespace, "--ignore-not-found", "--wait=false")


async def _environment(api: Api, name: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = await api.ask("GET", f"environments/{name}")
    except Refused as e:
        if e.status != 404:
            raise
        return None
    return found


async def test_an_environment_that_is_deleted_while_somebody_debugs_in_it_says_so(
    kubeconfig: Path, named: Kubectl, tmp_path: Path
) -> None:
    name = f"env-{named.namespace[-8:]}"
    config = f'[[clusters]]\nname = "dev"\nkubeconfig = "{kubeconfig}"\nenvironment = "namespace-label:{LABEL}"\n'
    await asyncio.to_thread(named.deploy, "shop")
    async with serving(tmp_path, config) as (process, api), asyncio.timeout(180):
        process.env |= {"NOAH_URL": process.url, "NOAH_TOKEN": api.token("ada")}
        session = await api.ready(f"pod/dev/{named.namespace}/deploy/shop")
        assert session["environment"] == named.namespace  # it has no label yet
        await api.end(session)
        await asyncio.to_thread(named, "label", "namespace", named.namespace, f"{LABEL}={name}")
        while await _environment(api, name) is None:
            await asyncio.sleep(0.1)
        code, out = await process.noah("enable", "app=shop", "--env", name, "--wait", "-o", "name")
        assert code == 0, out
        debugging = out.split()[-1]  # after the steps
        there = await _environment(api, name)
        assert there is not None
        assert (there["pods"], [one["id"] for one in there["sessions"]]) == (1, [debugging])

        await asyncio.to_thread(named, "delete", "namespace", named.namespace, "--wait=false")
        while (there := await _environment(api, name)) is None or there["targets"]:
            await asyncio.sleep(0.1)
        assert [one["status"] for one in there["sessions"]] == ["waiting"]
        headers = {**api.headers(), "Accept": "text/html"}
        async with api.http.get(f"{api.url}/environments/{name}", headers=headers) as page:
            assert "Nothing is left of this environment" in await page.text()
        code, table = await process.noah("environments", "-q", name)
        assert (code, "gone" in table) == (0, True)

        code, said = await process.noah("end", debugging, "--wait")
        assert code == 0, said
        while await _environment(api, name) is not None:
            await asyncio.sleep(0.1)
        ended = await api.ask("GET", f"sessions?environment={name}&state=ended")
        assert [one["id"] for one in ended["items"]] == [debugging]
