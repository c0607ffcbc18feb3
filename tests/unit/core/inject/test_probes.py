"""What the kubelet takes for success stays success: each probe's meaning, asked from inside of the container."""

import asyncio
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from noah.core.inject.hooks import SIDECAR
from noah.core.inject.manifest import eject, inject
from noah.core.pods import POD_IP, probe_verdicts
from tests.processes import output_of
from tests.unit.core.inject.manifests import HTTP, app, container_of, notes_of, pod
from tests.unit.inpod.containers import SHELLS, path_with

KINDS = ("livenessProbe", "startupProbe")


def probed(probe: dict[str, Any], kind: str = "livenessProbe", **container: Any) -> dict[str, Any]:
    """The container with this probe, injected."""
    manifest = pod(app(**{kind: probe}, **container))
    injected = inject(manifest).manifest
    assert eject(injected) == manifest
    return container_of(injected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("probe", "url", "more"),
    [
        ({"httpGet": {"port": 8080}}, "http://$$NOAH_POD_IP:8080/", []),
        ({"httpGet": {"port": "web", "path": "/a b?c=$d"}}, "http://$$NOAH_POD_IP:9090/a%20b?c=$$d", []),
        ({"httpGet": {"port": "8443", "scheme": "HTTPS", "path": "x"}}, "https://$$NOAH_POD_IP:8443/x", []),
        ({"httpGet": {"port": 80, "host": "fd00::1"}}, "http://[fd00::1]:80/", []),
        ({"httpGet": {"port": 80, "host": "127.0.0.1"}}, "http://127.0.0.1:80/", []),
        (
            {
                "httpGet": {
                    "port": 80,
                    "httpHeaders": [{"name": "Host", "value": "shop.test"}, {"name": "X-A", "value": "$b"}],
                }
            },
            "http://$$NOAH_POD_IP:80/",
            ["Host: shop.test", "X-A: $$b"],
        ),
    ],
)
def test_an_http_get_is_asked_as_the_kubelet_asks_it(
    kind: str, probe: dict[str, Any], url: str, more: list[str]
) -> None:
    container = probed(probe, kind, ports=[{"name": "web", "containerPort": 9090}])
    command = container[kind]["exec"]["command"]
    assert command[3:] == ["noah-liveness", url, "2", "jvm", "200-399", *more, "User-Agent: kube-probe/noah"]
    addresses = [e for e in container.get("env") or () if e["name"] == POD_IP]
    assert addresses == [{"name": POD_IP, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}] * (POD_IP in url)


def test_a_header_user_agent_of_the_probes_own_is_kept() -> None:
    agent = {"name": "user-agent", "value": "mine/1"}
    command = probed({"httpGet": {"port": 80, "httpHeaders": [agent]}})["livenessProbe"]["exec"]["command"]
    assert command[7:] == ["200-399", "user-agent: mine/1"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"timeoutSeconds": 3}),
        ({"timeoutSeconds": 9, "periodSeconds": 5}, {"timeoutSeconds": 9, "periodSeconds": 5}),
        ({"timeoutSeconds": 3, "periodSeconds": 1}, {"timeoutSeconds": 3, "periodSeconds": 1, "failureThreshold": 5}),
        ({"timeoutSeconds": 3, "failureThreshold": 1}, {"timeoutSeconds": 3, "failureThreshold": 2}),
        (
            {"timeoutSeconds": 4, "successThreshold": 1, "terminationGracePeriodSeconds": 5, "initialDelaySeconds": 7},
            {"timeoutSeconds": 4, "successThreshold": 1, "terminationGracePeriodSeconds": 5, "initialDelaySeconds": 7},
        ),
    ],
)
def test_a_probe_keeps_its_rhythm_but_for_what_a_suspended_vm_needs(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    """4 s, the age up to which a gateway's last word may be wrong, must not be enough to be killed in."""
    probe = probed(HTTP | before)["livenessProbe"]
    assert {key: value for key, value in probe.items() if key != "exec"} == after


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("probe", "says"),
    [
        ({"grpc": {"port": 1}}, "nothing inside of a container can ask"),
        ({"httpGet": {"port": "nowhere"}}, "'nowhere' is none of the container's"),
        ({"httpGet": {"port": 1, "httpHeaders": [{"name": "a", "value": "b\r\nc: d"}]}}, "cannot be sent from a shell"),
        ({"httpGet": {"port": 1, "path": "/" + "x" * 3000}}, "longer than 2000 characters"),
        ({"tcpSocket": {"port": 1, "host": "db"}}, "nothing inside of a container can ask"),
    ],
)
def test_a_probe_whose_meaning_cannot_be_kept_stays_with_a_note(kind: str, probe: dict[str, Any], says: str) -> None:
    manifest = pod(app(**{kind: probe}))
    assert f"The {kind.removesuffix('Probe')} probe of container app stays as it is" in notes_of(manifest)
    assert says in notes_of(manifest)
    assert container_of(inject(manifest).manifest)[kind] == probe
    given = pod(app(**{kind: probe}), annotations={"checkurl": "http://127.0.0.1:1/ok"})
    assert container_of(inject(given).manifest)[kind]["exec"]["command"][3:] == [
        "noah-liveness",
        "http://127.0.0.1:1/ok",
        "2",
    ]


def test_readiness_is_left_alone_and_each_other_probe_can_be() -> None:
    manifest = pod(app(livenessProbe=HTTP, startupProbe=HTTP, readinessProbe=HTTP))
    assert container_of(inject(manifest).manifest)["readinessProbe"] == HTTP
    manifest["metadata"]["annotations"] = {"debug.noah/startup": "off"}
    container = container_of(inject(manifest).manifest)
    assert container["startupProbe"] == HTTP
    assert "exec" in container["livenessProbe"]


def test_the_sidecar_asks_what_the_probe_asks() -> None:
    header = {"name": "Host", "value": "shop.test"}
    manifest = pod(app(livenessProbe={"httpGet": {"path": "/204", "port": 8080, "httpHeaders": [header]}}))
    sidecar = container_of(inject(manifest).manifest, SIDECAR)
    assert sidecar["command"][5:7] == ["http://$$NOAH_POD_IP:8080/204", "8080"]
    assert sidecar["command"][-3:] == ["200-399", "Host: shop.test", "User-Agent: kube-probe/noah"]
    assert POD_IP in [e["name"] for e in sidecar["env"]]


@pytest.mark.parametrize(
    ("probes", "verdicts"),
    [
        ({}, [("warning", "There is no liveness probe")]),
        ({"livenessProbe": HTTP}, [("error", "Its liveness probe (httpGet) kills it at a breakpoint")]),
        (
            {"startupProbe": HTTP},
            [
                ("warning", "There is no liveness probe"),
                ("error", "Its startup probe (httpGet) kills it at a breakpoint"),
            ],
        ),
    ],
)
def test_the_doctor_says_the_truth_about_each_probe(probes: dict[str, Any], verdicts: list[tuple[str, str]]) -> None:
    found = probe_verdicts(pod(app(**probes)), "app")
    assert [(level, said.startswith(says)) for (level, said), (_, says) in zip(found, verdicts, strict=True)] == [
        (level, True) for level, _ in verdicts
    ]
    healed = inject(pod(app(**probes))).manifest
    assert "error" not in {level for level, _ in probe_verdicts(healed, "app")}


def test_the_doctor_finds_a_jvm_that_waits_for_its_first_debugger() -> None:
    options = "-agentlib:jdwp=transport=dt_socket,server=y,suspend=y,address=5005"
    waiting = app(env=[{"name": "JAVA_TOOL_OPTIONS", "value": options}], livenessProbe=HTTP)
    assert "suspend=y" in probe_verdicts(inject(pod(waiting)).manifest, "app")[-1][1]


# The commands themselves, with real shells, tools and a server


class _Answers(http.server.BaseHTTPRequestHandler):
    """/N answers N; /to/PATH redirects there; /vhost is there for one Host only."""

    def do_GET(self) -> None:
        location = None
        if self.path.startswith("/to/"):
            status, location = 302, self.path.removeprefix("/to")
        elif self.path.startswith("/away"):
            status, location = 302, "http://127.0.0.2:9/"
        elif self.path.startswith("/vhost"):
            status = 200 if self.headers["Host"] == "shop.test" and self.headers["X-Key"] == "a b" else 403
        elif self.path.startswith("/probe-only"):
            status = 200 if self.headers["User-Agent"].startswith("kube-probe/") else 403
        else:
            status = int(self.path.strip("/"))
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(params=["curl", "wget", "busybox wget", "bash"])
def tool_path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    tools = {"curl": {"curl": "curl"}, "wget": {"wget": "wget"}, "busybox wget": {"wget": "busybox"}, "bash": {}}
    return path_with(tmp_path / "bin", sh="dash", sleep="sleep", **tools[request.param], bash="bash")


async def ended(command: list[str], path: str, **env: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command, env={"PATH": path, "NOAH_REPORTS": "/nowhere", **env}, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await output_of(process)
    assert process.returncode is not None
    return process.returncode, out.decode()


@pytest.mark.parametrize(
    ("path", "healthy"),
    [
        ("/200", True),
        ("/201", True),
        ("/204", True),
        ("/302", True),
        ("/304", True),
        ("/399", True),
        ("/to/204", True),
        ("/away", True),  # another host is not asked
        ("/to/away", True),
        ("/probe-only", True),
        ("/to/503", False),
        ("/400", False),
        ("/503", False),
        ("/vhost", False),
    ],
)
async def test_a_status_means_what_it_means_to_the_kubelet(path: str, healthy: bool, port: int, tool_path: str) -> None:
    command = probed({"httpGet": {"path": path, "port": port}})["livenessProbe"]["exec"]["command"]
    command = [word.replace("$$", "$") for word in command]  # as the kubelet does
    code, said = await ended(command, tool_path, NOAH_POD_IP="127.0.0.1")
    assert (code == 0) is healthy, said


async def test_headers_are_sent_and_the_host_too(port: int, tool_path: str) -> None:
    headers = [{"name": "Host", "value": "shop.test"}, {"name": "X-Key", "value": "a b"}]
    get = {"path": "/vhost", "port": port, "httpHeaders": headers}
    command = probed({"httpGet": get})["livenessProbe"]["exec"]["command"]
    assert (await ended([w.replace("$$", "$") for w in command], tool_path, NOAH_POD_IP="127.0.0.1"))[0] == 0


async def test_a_url_given_by_hand_takes_200_only(port: int, tool_path: str) -> None:
    for path, healthy in (("/200", True), ("/204", False), ("/to/200", False)):
        given = pod(app(livenessProbe=HTTP), annotations={"checkurl": f"http://127.0.0.1:{port}{path}"})
        command = container_of(inject(given).manifest)["livenessProbe"]["exec"]["command"]
        code, said = await ended(command, tool_path)
        assert (code == 0) is healthy, said


async def test_the_reason_of_a_failed_check_is_said(port: int, tool_path: str) -> None:
    get = {"port": port, "scheme": "HTTPS"}
    command = probed({"httpGet": get})["livenessProbe"]["exec"]["command"]
    code, said = await ended([w.replace("$$", "$") for w in command], tool_path, NOAH_POD_IP="127.0.0.1")
    assert code == 1
    assert said.count("\n") == 1
    assert any(word in said for word in ("SSL", "TLS", "takes curl or wget")), said


@pytest.mark.parametrize("shell", SHELLS)
async def test_an_old_probe_that_is_a_jvm_has_no_agent(shell: str, tmp_path: Path) -> None:
    out = tmp_path / "env"
    script = tmp_path / "sh"
    script.write_text(f'#!{SHELLS[shell][0]}\nexec {" ".join(SHELLS[shell])} "$@"\n')
    script.chmod(0o755)
    tool = {"exec": {"command": ["sh", "-c", f'echo "${{JAVA_TOOL_OPTIONS-unset}}" > {out}']}}
    container = probed(tool, env=[{"name": "JAVA_TOOL_OPTIONS", "value": "-Xmx1g"}])
    (options,) = [e["value"] for e in container["env"]]
    path = path_with(tmp_path / "bin", sh=script, sleep="sleep")
    code, said = await ended(container["livenessProbe"]["exec"]["command"], path, JAVA_TOOL_OPTIONS=options)
    assert (code, out.read_text().strip()) == (0, "-Xmx1g")
    assert "127.0.0.1:9" not in said
