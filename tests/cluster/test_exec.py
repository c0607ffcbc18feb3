"""Commands and connections in a real cluster's containers."""

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from noah.errors import BadInput, CannotDebug, NoahError, NotFound, Unavailable
from noah.kube.clusters import Cluster
from noah.kube.errors import MissingRight
from noah.kube.exec.commands import Container
from noah.settings import ClusterSettings
from tests.cluster.conftest import Kubectl, java_app
from tests.cluster.proxies import connect_proxy, path_proxy

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def pod(kubectl: Kubectl) -> Container:
    kubectl.run("orders")
    return Container(kubectl.namespace, "orders", "app", node=kubectl.get("pod", "orders")["spec"]["nodeName"])


@pytest.fixture
async def cluster(kubeconfig: Path) -> AsyncIterator[Cluster]:
    async with Cluster(ClusterSettings(name="real", kubeconfig=kubeconfig)) as cluster:
        yield cluster


@pytest.mark.parametrize(("script", "code"), [("true", 0), ("exit 7", 7), ("kill -9 $$", 137)])
async def test_the_exit_code_is_told(cluster: Cluster, pod: Container, script: str, code: int) -> None:
    assert (await cluster.exec.run(pod, ["sh", "-c", script], timeout=60)).code == code


async def test_much_output_comes_whole(cluster: Cluster, pod: Container) -> None:
    script = "head -c 20000000 /dev/zero; echo oops >&2"
    result = await cluster.exec.run(pod, ["sh", "-c", script], timeout=30, limit=30_000_000)
    assert result.stdout == bytes(20_000_000)
    assert result.stderr == b"oops\n"


async def test_more_output_than_allowed_ends_the_command(cluster: Cluster, pod: Container) -> None:
    with pytest.raises(Unavailable, match="printed more than 1000 bytes"):
        await cluster.exec.run(pod, ["yes"], timeout=10, limit=1000)
    await _none_left(cluster)


async def test_stdin_is_read_to_its_end(cluster: Cluster, pod: Container) -> None:
    sent = random.Random(1).randbytes(300_000)
    assert (await cluster.exec.run(pod, ["cat"], stdin=sent, timeout=60)).stdout == sent


async def test_a_character_split_between_two_frames_is_one_character(cluster: Cluster, pod: Container) -> None:
    script = r"printf '\303'; sleep 0.2; printf '\251'"
    assert (await cluster.exec.run(pod, ["sh", "-c", script], timeout=60)).stdout.decode() == "é"


async def test_names_are_never_shell(cluster: Cluster, pod: Container) -> None:
    words = ["$(id)", "a b", "'\"", "`", "\n", "ü", "&command=id"]
    result = await cluster.exec.run(pod, ["printf", "%s|", *words], timeout=60)
    assert result.stdout.decode() == "|".join(words) + "|"


async def test_a_container_without_the_program_says_so(cluster: Cluster, kubectl: Kubectl) -> None:
    kubectl.apply({"apiVersion": "v1", "kind": "Pod", **java_app("no-sh", image="pause", readinessProbe=None)})
    kubectl.wait("pod/no-sh", "condition=Ready")
    with pytest.raises(CannotDebug) as raised:
        await cluster.exec.run(Container(kubectl.namespace, "no-sh", "app"), ["sh", "-c", "true"], timeout=60)
    assert raised.value.sentence == f'Container "app" of pod {kubectl.namespace}/no-sh has no sh.'


async def test_a_wrong_name_says_which(cluster: Cluster, pod: Container) -> None:
    with pytest.raises(BadInput, match="Container zz is not valid for pod orders"):
        await cluster.exec.run(Container(pod.namespace, pod.pod, "zz"), ["true"], timeout=60)
    with pytest.raises(NotFound, match='Pods "zz" not found in namespace'):
        await cluster.exec.run(Container(pod.namespace, "zz", "app"), ["true"], timeout=60)
    with pytest.raises(NotFound):
        await cluster.exec.run(Container("zz", "zz", "app"), ["true"], timeout=60)


async def test_a_container_that_is_not_running_says_so(cluster: Cluster, kubectl: Kubectl) -> None:
    pod = java_app("half-over", readinessProbe=None)
    over = {"name": "over", "image": "noah.test/java17:1", "imagePullPolicy": "Never", "command": ["true"]}
    pod["spec"].update(restartPolicy="Never", containers=[*pod["spec"]["containers"], over])
    kubectl.apply({"apiVersion": "v1", "kind": "Pod", **pod})
    kubectl.wait("pod/half-over", "jsonpath={.status.containerStatuses[?(@.name=='over')].state.terminated.exitCode}=0")
    with pytest.raises(Unavailable) as raised:
        await cluster.exec.run(Container(kubectl.namespace, "half-over", "over"), ["true"], timeout=60)
    assert raised.value.sentence == f'Container "over" of pod {kubectl.namespace}/half-over is not running.'


async def test_a_missing_right_is_named(kubeconfig: Path, kubectl: Kubectl, pod: Container, tmp_path: Path) -> None:
    known = _by_token(kubeconfig, kubectl, tmp_path, "nobody")
    async with Cluster(known) as cluster:
        for attempt in (
            cluster.exec.run(pod, ["true"], timeout=60),
            cluster.exec.connect(pod, ["cat"], Receiver),
        ):
            with pytest.raises(MissingRight) as raised:
                await attempt
            assert raised.value.sentence in {
                f'The gateway may not {verb} pods/exec in namespace "{kubectl.namespace}" of cluster "real": '
                f"grant that to system:serviceaccount:{kubectl.namespace}:nobody."
                for verb in ("get", "create")
            }
        with pytest.raises(MissingRight, match='may not list pods in cluster "real"'):
            await cluster.get("/api/v1/pods")
        assert "create pods/exec" in await cluster.missing_rights()
        assert "get pods/exec in namespace shop" in await cluster.missing_rights("shop")


async def test_all_rights_are_there(cluster: Cluster) -> None:
    assert await cluster.missing_rights() == []


async def test_a_command_that_takes_too_long_is_let_go_of(cluster: Cluster, pod: Container) -> None:
    with pytest.raises(Unavailable, match="did not end within 0"):
        await cluster.exec.run(pod, ["sleep", "5"], timeout=0.5)
    await _none_left(cluster)


async def test_a_node_gets_eight_at_a_time(cluster: Cluster, pod: Container) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(cluster.exec.run(pod, ["sleep", "2"], timeout=60))
        await _until(lambda: cluster.exec.counts.in_flight == 8)
        with pytest.raises(Unavailable, match=f'8 commands running on node "{pod.node}"'):
            await cluster.exec.run(pod, ["true"], timeout=0.2)


async def test_a_held_command_goes_on_after_its_stream(cluster: Cluster, pod: Container) -> None:
    script = 'echo "pid $$"; echo done; exec sleep 300'
    held = await cluster.exec.hold(pod, ["sh", "-c", script], until="done", first_line_timeout=60)
    (line,) = held.lines
    number = line.removeprefix("pid ")
    await held.close()
    assert not held.ended.is_set()
    result = await cluster.exec.run(pod, ["sh", "-c", 'kill "$0"', number], timeout=60)
    assert result.code == 0, "it was still there to be killed"


async def test_a_held_command_tells_its_end(cluster: Cluster, pod: Container) -> None:
    ends: list[int | NoahError] = []
    held = await cluster.exec.hold(
        pod,
        ["sh", "-s", "--", "9"],
        stdin=b'echo done\nsleep 0.5\nexit "$1"\n',
        until="done",
        first_line_timeout=10,
        on_end=ends.append,
    )
    await asyncio.wait_for(held.ended.wait(), 10)
    assert ends == [9]


async def test_a_held_command_reads_the_lines_that_follow_its_script(cluster: Cluster, pod: Container) -> None:
    lines: list[str] = []
    held = await cluster.exec.hold(
        pod,
        ["sh", "-s"],
        stdin=b'echo up\nwhile read -r line; do echo "ack $line"; [ "$line" != end ] || exit 4; done\nexit 5\n',
        keep_stdin=True,
        until="up",
        first_line_timeout=10,
        on_line=lines.append,
    )
    for word in (b"suspended\n", b"running\n", b"end\n"):
        held.write(word)
    await asyncio.wait_for(held.ended.wait(), 10)
    assert (held.how, lines) == (4, ["ack suspended", "ack running", "ack end"])


async def test_a_connection_is_exact_to_the_byte(cluster: Cluster, pod: Container) -> None:
    receiver = Receiver()
    transport = await cluster.exec.connect(pod, ["cat"], lambda: receiver)
    piece = random.Random(2).randbytes(1 << 20)
    for _ in range(50):
        await receiver.may_write.wait()
        transport.write(piece)
    await receiver.bytes(50 << 20)
    transport.close()
    await receiver.lost.wait()
    assert receiver.digest.digest() == hashlib.sha256(piece * 50).digest()
    assert receiver.error is None


async def test_closing_a_connection_ends_the_commands_stdin_at_once(cluster: Cluster, pod: Container) -> None:
    receiver = Receiver()
    script = 'echo up; cat > /dev/null; touch "/dev/shm/$0"'
    transport = await cluster.exec.connect(pod, ["sh", "-c", script, "saw-its-end"], lambda: receiver)
    await receiver.bytes(3)
    transport.close()
    began = time.monotonic()
    while (await cluster.exec.run(pod, ["test", "-e", "/dev/shm/saw-its-end"], timeout=30)).code:
        assert time.monotonic() - began < 30
    await receiver.lost.wait()


async def test_a_connections_command_that_fails_is_the_reason(cluster: Cluster, pod: Container) -> None:
    receiver = Receiver()
    await cluster.exec.connect(pod, ["socat", "-", "UNIX-CONNECT:/nowhere"], lambda: receiver)
    async with asyncio.timeout(60):
        await receiver.lost.wait()
    assert "UNIX-CONNECT" in str(receiver.error) or "No such file or directory" in str(receiver.error)


async def test_who_does_not_read_stops_the_command(cluster: Cluster, pod: Container) -> None:
    receiver = Receiver()
    transport = await cluster.exec.connect(pod, ["cat", "/dev/zero"], lambda: receiver)
    await receiver.bytes(1 << 20)
    transport.pause_reading()
    paused_at = receiver.count
    await asyncio.sleep(0.5)
    assert receiver.count == paused_at
    transport.resume_reading()
    await receiver.bytes(paused_at + (64 << 20))
    transport.abort()
    await receiver.lost.wait()


async def test_a_command_that_does_not_read_stops_the_writer(cluster: Cluster, pod: Container) -> None:
    receiver = Receiver()
    transport = await cluster.exec.connect(pod, ["sh", "-c", "sleep 1; cat > /dev/null"], lambda: receiver)
    transport.set_write_buffer_limits(high=0)
    written = 0
    while receiver.may_write.is_set():
        transport.write(bytes(65536))
        written += 65536
        await asyncio.sleep(0)
        assert written < 256 << 20
    assert transport.get_write_buffer_size() <= 1 << 20
    async with asyncio.timeout(60):
        await receiver.may_write.wait()
    transport.close()
    await receiver.lost.wait()


async def test_a_token_and_a_url_with_a_path_are_enough(
    kubeconfig: Path, kubectl: Kubectl, pod: Container, tmp_path: Path
) -> None:
    direct = _by_token(kubeconfig, kubectl, tmp_path, "gateway", role="admin")
    async with path_proxy("/k8s/clusters/c-1", to=_server(kubeconfig)) as url:
        known = direct.model_copy(update={"url": url, "ca_file": None, "namespaces": (kubectl.namespace,)})
        for way in (direct.model_copy(update={"namespaces": (kubectl.namespace,)}), known):
            async with Cluster(way) as cluster:
                assert await cluster.informer.wait_synced(10)
                assert cluster.informer.get(kubectl.namespace, "orders") is not None
                assert (await cluster.exec.run(pod, ["echo", "hi"], timeout=60)).stdout == b"hi\n"


async def test_proxy_url_and_tls_server_name_are_honoured(kubeconfig: Path, pod: Container, tmp_path: Path) -> None:
    tree = _tree(kubeconfig)
    known = ClusterSettings(name="real", kubeconfig=tmp_path / "kubeconfig")
    async with connect_proxy() as (proxy, tunnels):
        tree["clusters"][0]["cluster"].update({"proxy-url": proxy, "tls-server-name": "kubernetes.default.svc"})
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(tree))
        async with Cluster(known) as cluster:
            assert (await cluster.exec.run(pod, ["echo", "hi"], timeout=60)).stdout == b"hi\n"
            assert await cluster.informer.wait_synced(10)
        assert set(tunnels) == {_server(kubeconfig).removeprefix("https://")}
        tree["clusters"][0]["cluster"].update({"tls-server-name": "another.example"})
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(tree))
        async with Cluster(known) as cluster:
            with pytest.raises(Unavailable, match=r"certificate is not trusted.*another\.example"):
                await cluster.get("/version")


class Receiver(asyncio.BufferedProtocol):
    def __init__(self) -> None:
        self.count = 0
        self.first = b""
        self.digest = hashlib.sha256()
        self.error: Exception | None = None
        self.lost = asyncio.Event()
        self.may_write = asyncio.Event()
        self.may_write.set()
        self._room = memoryview(bytearray(128 * 1024))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        self.count += nbytes
        self.digest.update(self._room[:nbytes])
        self.first = (self.first + self._room[: min(nbytes, 100)])[:100]

    def pause_writing(self) -> None:
        self.may_write.clear()

    def resume_writing(self) -> None:
        self.may_write.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = exc
        self.lost.set()

    async def bytes(self, number: int) -> None:
        await _until(lambda: self.count >= number)


def _tree(kubeconfig: Path) -> Any:
    return yaml.safe_load(kubeconfig.read_text())


def _server(kubeconfig: Path) -> str:
    return str(_tree(kubeconfig)["clusters"][0]["cluster"]["server"])


def _by_token(kubeconfig: Path, kubectl: Kubectl, folder: Path, name: str, *, role: str = "") -> ClusterSettings:
    """A service account, with a role in the namespace or with none, given as URL, token file and CA."""
    kubectl("create", "serviceaccount", name)
    if role:
        who = f"--serviceaccount={kubectl.namespace}:{name}"
        kubectl("create", "rolebinding", name, f"--clusterrole={role}", who)
    (folder / "token").write_text(kubectl("create", "token", name))
    ca = _tree(kubeconfig)["clusters"][0]["cluster"]["certificate-authority"]
    return ClusterSettings(name="real", url=_server(kubeconfig), token_file=folder / "token", ca_file=Path(ca))


async def _none_left(cluster: Cluster) -> None:
    await _until(lambda: cluster.exec.counts.in_flight == 0)


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)
