"""A real cluster says whose token it is: a ServiceAccount's, and what a kubeconfig yields."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.acceptance.cli.command import noah
from tests.cluster.conftest import Kubectl
from tests.gateway import Process, serving

pytestmark = pytest.mark.cluster


def _config(kubectl: Kubectl, *audiences: str) -> str:
    return (
        f'[[clusters]]\nname = "dev"\nkubeconfig = "{kubectl.kubeconfig}"\nnamespaces = ["{kubectl.namespace}"]\n'
        f'[[access.kubernetes]]\ncluster = "dev"\naudiences = {json.dumps(["noah", *audiences])}\n[access]\n'
    )


@asynccontextmanager
async def _account(kubectl: Kubectl, name: str) -> AsyncIterator[str]:
    await asyncio.to_thread(kubectl, "create", "serviceaccount", name)
    yield f"system:serviceaccount:{kubectl.namespace}:{name}"


async def _token(kubectl: Kubectl, name: str, *argv: str) -> str:
    return (await asyncio.to_thread(kubectl, "create", "token", name, *argv)).strip()


async def _me(process: Process, token: str) -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession() as http, http.get(f"{process.url}/api/v1/me", headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


async def test_a_token_of_a_service_account_for_the_gateway_is_a_login(kubectl: Kubectl, tmp_path: Path) -> None:
    async with _account(kubectl, "ci") as username, serving(tmp_path, _config(kubectl)) as (process, _):
        token = await _token(kubectl, "ci", "--audience=noah")
        status, me = await _me(process, token)
        assert status == 200, me
        principal = me["principal"]
        assert (principal["kind"], principal["issuer"], principal["subject"]) == ("kubernetes", "dev", username)
        assert principal["name"] == f"{kubectl.namespace}/ci"
        assert me["groups"] == ["system:serviceaccounts", f"system:serviceaccounts:{kubectl.namespace}"]
        said = await noah(process.url, "targets", env={"NOAH_TOKEN": token})
        assert said.code == 0, said.err

        for other in (
            await _token(kubectl, "ci"),  # for the API server
            await _token(kubectl, "ci", "--audience=other"),
            token[:-4] + "AAAA",
            token.replace(token.split(".")[1], _forged(token)),
        ):
            status, problem = await _me(process, other)
            assert (status, problem["detail"]) == (
                401,
                "Cluster dev does not know this token, or it is not for this gateway.",
            )
        assert token not in process.log.read_text()


async def test_a_token_of_an_account_that_is_gone_is_refused(kubectl: Kubectl, tmp_path: Path) -> None:
    async with _account(kubectl, "brief"), serving(tmp_path, _config(kubectl)) as (process, _):
        token = await _token(kubectl, "brief", "--audience=noah")
        await asyncio.to_thread(kubectl, "delete", "serviceaccount", "brief")
        async with asyncio.timeout(60):  # the API server has a cache of its own, of ten seconds
            while (await _me(process, token))[0] != 401:
                await asyncio.sleep(1)


async def test_the_command_line_logs_in_with_what_a_kubeconfig_yields(kubectl: Kubectl, tmp_path: Path) -> None:
    async with _account(kubectl, "jane"):
        issued = await _token(kubectl, "jane")
        claims = json.loads(base64.urlsafe_b64decode(issued.split(".")[1] + "=="))
        config = json.loads(await asyncio.to_thread(kubectl, "config", "view", "--raw", "--minify", "-o", "json"))
        plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "./login", "interactiveMode": "Never"}
        config["users"] = [{"name": config["users"][0]["name"], "user": {"exec": plugin}}]
        (tmp_path / "config").write_text(json.dumps(config))
        credential = {"apiVersion": plugin["apiVersion"], "kind": "ExecCredential", "status": {"token": issued}}
        (tmp_path / "login").write_text(f"#!/bin/sh\necho '{json.dumps(credential)}'\n")
        (tmp_path / "login").chmod(0o700)
        env = {"KUBECONFIG": str(tmp_path / "config"), "XDG_CONFIG_HOME": str(tmp_path)}
        async with serving(tmp_path, _config(kubectl, *claims["aud"])) as (process, _):
            said = await noah(process.url, "login", "--kube-context", env=env)
            assert (said.code, f"You are {kubectl.namespace}/jane" in said.out) == (0, True), said
            assert issued not in (tmp_path / "noah" / "credentials.json").read_text()
            assert (await noah(process.url, "targets", env=env)).code == 0


def _forged(token: str) -> str:
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    claims["kubernetes.io"]["serviceaccount"]["name"] = "default"
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
