"""What cannot work, on a real cluster: each one clear sentence, and nothing is left half done."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.cluster.conftest import AGENT, Kubectl
from tests.cluster.test_enable import configured
from tests.gateway import Api, Refused, serving
from tests.ports import free_port

pytestmark = pytest.mark.cluster


@pytest.fixture
async def api(tmp_path: Path, kubeconfig: Path) -> AsyncIterator[Api]:
    async with serving(tmp_path, configured(kubeconfig)) as (_, api):
        yield api


async def refused(api: Api, target: str) -> Refused:
    with pytest.raises(Refused) as caught:
        await api.enable(target)
    assert (await api.ask("GET", "sessions"))["items"] == []
    return caught.value


async def failed(api: Api, target: str) -> str:
    """Refused at once, or ended as failed; either way with a sentence, and with nothing left."""
    session = await api.until(await api.enable(target, wait=100), "ended")
    assert (session["status"], session["end_reason"]) == ("ended", "failed"), session
    return str(session["end_detail"])


@pytest.mark.parametrize(
    ("target", "status", "words"),
    [
        ("pod/nowhere/team/shop", 404, "no cluster 'nowhere'; it knows dev"),
        ("pod/dev/no-such-namespace/shop", 404, "no namespace 'no-such-namespace'"),
        ("pod/dev/NAMESPACE/no-such-pod", 404, "no pod 'no-such-pod'"),
        ("pod/dev/NAMESPACE/deploy/no-such", 404, "no pod of"),
        ("pod/dev/NAMESPACE/app=no-such", 404, "no pod of"),
        ("pod/dev/NAMESPACE/two/no-such", 404, "no container 'no-such'; it has one, other"),
        ("pod/dev/NAMESPACE/two", 422, "several containers (one, other)"),
        ("pod/dev/NAMESPACE/done", 422, "done"),
        ("pod/dev/NAMESPACE/stuck", 422, "does not run"),
        ("pod/dev/NAMESPACE/$(reboot)", 400, "is not a name"),
        ("pod/dev/../../etc", 400, "is not a name"),
        ("pod/dev/" + "x" * 10_000, 400, "at most 800 characters"),
        ("nonsense", 400, "is not a target"),
        ("local/x", 404, "[[local]]"),
        ("host/h/x", 404, "host"),
    ],
)
async def test_what_is_not_there_is_said(api: Api, odd_pods: Kubectl, target: str, status: int, words: str) -> None:
    refusal = await refused(api, target.replace("NAMESPACE", odd_pods.namespace))
    assert (refusal.status, words in refusal.detail) == (status, True), refusal.detail


@pytest.fixture(scope="module")
def odd_pods(kubectl: Kubectl) -> Kubectl:
    def container(name: str, *command: str) -> dict[str, object]:
        return {"name": name, "image": "noah.test/java17:1", "imagePullPolicy": "Never", "command": list(command)}

    def pod(name: str, *containers: dict[str, object]) -> dict[str, object]:
        spec = {"containers": list(containers), "restartPolicy": "Never", "terminationGracePeriodSeconds": 0}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}

    kubectl.apply(
        pod("two", container("one", "sleep", "1000"), container("other", "sleep", "1000")),
        pod("done", container("one", "true")),
        pod("stuck", container("one", "sleep", "1000") | {"image": "noah.test/no-such-image:1"}),
        pod("no-java", container("one", "sleep", "1000")),
    )
    kubectl.run("no-agent", options="-Dnothing=1")
    kubectl.run("small-shm", options=AGENT.replace("50005", "50006"))
    kubectl.wait("pod/done", "jsonpath={.status.phase}=Succeeded")
    kubectl.wait("pod/two", "condition=Ready")
    return kubectl


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        ("no-agent", "-agentlib:jdwp="),
        ("no-java", "No Java process runs"),
    ],
)
async def test_what_the_image_lacks_is_said(api: Api, odd_pods: Kubectl, pod: str, words: str) -> None:
    assert words in await failed(api, f"pod/dev/{odd_pods.namespace}/{pod}")


async def test_a_port_in_the_options_is_found(api: Api, odd_pods: Kubectl) -> None:
    session = await api.ready(f"pod/dev/{odd_pods.namespace}/small-shm")
    await api.end(session)


async def test_a_gateway_without_the_right_to_exec_says_which_one_is_missing(
    tmp_path: Path, kubectl: Kubectl, kubeconfig: Path
) -> None:
    kubectl.deploy("shop")
    kubectl("create", "serviceaccount", "reader")
    kubectl("create", "role", "reader", "--verb=get,list,watch", "--resource=pods")
    kubectl("create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={kubectl.namespace}:reader")
    token = tmp_path / "token"
    token.write_text(kubectl("create", "token", "reader").strip())
    authority = kubeconfig.parent / "pki/ca.crt"
    server = kubectl("config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}")
    config = (
        f'[[clusters]]\nname = "dev"\nurl = "{server}"\ntoken_file = "{token}"\nca_file = "{authority}"\n'
        f'namespaces = ["{kubectl.namespace}"]\n'
    )
    async with serving(tmp_path, config) as (_, api):
        refusal = await failed(api, f"pod/dev/{kubectl.namespace}/deploy/shop")
        assert "pods/exec" in refusal
        assert kubectl.namespace in refusal
        findings = (await api.ask("POST", "clusters/dev/doctor", {}))["findings"]
        assert any("create pods/exec" in f["message"] for f in findings if f["level"] == "error")


async def test_a_debugger_past_the_gateway_is_waited_for(api: Api, kubectl: Kubectl) -> None:
    kubectl.run("taken")
    target = f"pod/dev/{kubectl.namespace}/taken"
    async with attached_past_the_gateway(kubectl, "taken"):
        session = await api.enable(target, wait=0)
        refusal = await api.until(session, "waiting")
        assert "past the gateway" in refusal["reason"]
    await api.until(session, "ready")
    await api.end(session)


@asynccontextmanager
async def attached_past_the_gateway(kubectl: Kubectl, pod: str) -> AsyncIterator[None]:
    """A debugger that came by `kubectl port-forward`."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *("kubectl", "--kubeconfig", str(kubectl.kubeconfig), "-n", kubectl.namespace),
        *("port-forward", f"pod/{pod}", f"{port}:50005"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        await process.stdout.readline()  # "Forwarding from ..."
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"JDWP-Handshake")
        assert await reader.readexactly(14) == b"JDWP-Handshake"
        yield
        writer.close()
    finally:
        process.terminate()
        await process.wait()
