"""What a release publishes, installed as a user installs it: outside of a checkout, with nothing else."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.helm import helm
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]

pytestmark = pytest.mark.timeout(900)  # each fixture installs packages, on a machine that does other things


def run(*argv: object, cwd: Path, env: Mapping[str, str] | None = None, code: int = 0) -> str:
    """What it printed, on both streams."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [str(arg) for arg in argv],
        cwd=cwd,
        env={**clean, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release") / "dist"
    said = run(sys.executable, ROOT / "scripts/release.py", "--without-images", folder, cwd=ROOT)
    assert "Two builds were the same." in said
    assert said.count("PASSED") == 2
    return folder


@pytest.fixture(scope="module")
def light(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment that has the wheel and what it needs."""
    return installed(published, "", tmp_path_factory.mktemp("light"))


@pytest.fixture(scope="module")
def whole(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(published, "[server]", tmp_path_factory.mktemp("whole"))


def installed(published: Path, extras: str, folder: Path) -> Path:
    (wheel,) = published.glob("*.whl")
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    # What is imported is compiled then; all of it takes ten seconds of CPU.
    run(folder / "venv/bin/pip", "install", "-q", "--no-compile", f"{wheel}{extras}", cwd=folder)
    return folder / "venv/bin"


def test_what_a_gateway_is_made_of_is_listed(published: Path) -> None:
    (file,) = published.glob("*.cdx.json")
    listed = json.loads(file.read_text())
    assert (listed["bomFormat"], listed["metadata"]["component"]["name"]) == ("CycloneDX", "noah-gateway")
    assert listed["metadata"]["component"]["version"] in file.name
    names = {part["name"].lower() for part in listed["components"]}
    needed = {
        re.split(r"[\[>]", one)[0].lower() for one in [*PROJECT["dependencies"], *EXTRAS["server"], *EXTRAS["fast"]]
    }
    assert len(needed) > 15
    assert {name.replace("_", "-") for name in needed} - {name.replace("_", "-") for name in names} == set()
    assert all(part["purl"].startswith("pkg:pypi/") and part["version"] for part in listed["components"])


def test_helm_finds_nothing_wrong_in_the_chart_that_is_published(published: Path, tmp_path: Path) -> None:
    (chart,) = published.glob("noah-*.tgz")
    said = run(
        helm(),
        "template",
        "noah",
        chart,
        "--kube-version",
        "1.34.0",
        "-f",
        ROOT / "tests/chart/most.values.yaml",
        cwd=tmp_path,
    )
    assert "kind: PrometheusRule" in said


def test_a_client_has_nothing_of_the_server(light: Path, tmp_path: Path) -> None:
    listed = run(light / "pip", "list", "--format=freeze", cwd=tmp_path).lower().splitlines()
    there = {line.partition("==")[0].replace("_", "-") for line in listed}
    assert {"click", "pyyaml", "urllib3"} <= there
    assert not {"alembic", "asyncssh", "cryptography", "jinja2", "psycopg", "pydantic", "sqlalchemy"} & there


@pytest.mark.parametrize("way", ["a wheel", "a zip file", "a plugin of kubectl", "a package of Debian"])
def test_the_command_line_works_from(way: str, published: Path, light: Path, tmp_path: Path) -> None:
    env: dict[str, str] = {}
    noah: list[object] = [light / "noah"]
    if way == "a zip file":
        noah = [sys.executable, "-S", "-I", published / "noah.pyz"]
    elif way == "a package of Debian":
        (package,) = published.glob("*.deb")
        run("dpkg-deb", "-x", package, tmp_path / "root", cwd=tmp_path)
        noah = [sys.executable, "-S", "-I", tmp_path / "root/usr/bin/noah"]
    elif way == "a plugin of kubectl":
        if shutil.which("kubectl") is None:
            pytest.skip("kubectl is not installed")
        noah, env = ["kubectl", "noah"], {"PATH": f"{plugin(published, tmp_path)}:{os.environ['PATH']}"}

    assert run(*noah, "version", cwd=tmp_path, env=env).startswith("noah ")
    manifest = (ROOT / "tests/manifests/12-pod.yaml").read_text()
    (tmp_path / "pod.yaml").write_text(manifest)
    injected = run(*noah, "inject", "-f", "pod.yaml", cwd=tmp_path, env=env)
    assert "agentlib:jdwp" in injected
    assert "livenessProbe" in run(*noah, "probe-spec", "--checkurl", "http://127.0.0.1:1/", cwd=tmp_path, env=env)
    assert "noah sessions" in run(*noah, "explain", "not-found", cwd=tmp_path, env=env)
    nobody = {**env, "NOAH_URL": f"http://127.0.0.1:{free_port()}"}
    assert "does not answer" in run(*noah, "targets", "-o", "yaml", cwd=tmp_path, env=nobody, code=5)
    assert "does not answer" in run(*noah, "connect", "deploy/shop", cwd=tmp_path, env=nobody, code=5)
    assert "pip install 'noah-gateway[server]'" in run(*noah, "serve", cwd=tmp_path, env=env, code=2)


def plugin(published: Path, folder: Path) -> Path:
    """A folder with the plugin, as krew unpacks it."""
    manifest = YAML(typ="safe", pure=True).load((published / "krew-noah.yaml").read_text())
    (platform,) = manifest["spec"]["platforms"]
    with tarfile.open(published / platform["uri"].rpartition("/")[2]) as archive:
        archive.extractall(folder / "plugin", filter="data")
    names = sorted(path.name for path in (folder / "plugin").iterdir())
    assert names == sorted(file["from"] for file in platform["files"])
    return folder / "plugin"


def test_a_gateway_serves_its_pages_from_a_wheel(whole: Path, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "noah.toml").write_text(f'[gateway]\nlisten = "127.0.0.1:{port}"\n')
    env = {**os.environ, "NOAH_CONFIG": "noah.toml"}
    assert "up to date" in run(whole / "noah", "db", "upgrade", cwd=tmp_path, env=env)
    with subprocess.Popen(
        [whole / "noah", "serve"], cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert "serves" in process.stdout.readline()
            for path, expected in (("/", "<html"), ("/static/noah.css", "{"), ("/openapi.json", '"openapi"')):
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
                    assert expected in answer.read().decode()
        finally:
            process.terminate()


@pytest.mark.jvm
@pytest.mark.usefixtures("port_7070")
def test_the_demonstration_runs_from_a_wheel(whole: Path, tmp_path: Path) -> None:
    said = run(whole / "noah", "demo", "--once", cwd=tmp_path)
    assert "0 restarts, the order was answered, the session ended." in said


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_one_command_makes_a_shell_complete(shell: str, light: Path, tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path), "SHELL": f"/usr/bin/{shell}", "PATH": f"{light}:{os.environ['PATH']}"}
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZDOTDIR"):
        env[name] = ""
    startup = tmp_path / f".{shell}rc"
    startup.write_text("# of my own, without a line's end")
    said = run(light / "noah", "completion", "--install", cwd=tmp_path, env=env)
    assert "completes noah" in said
    run(light / "noah", "completion", shell, "--install", cwd=tmp_path, env=env)
    if shell == "fish":
        assert "complete" in (tmp_path / ".config/fish/completions/noah.fish").read_text()
        return
    kept = startup.read_text().splitlines()
    assert kept[0] == "# of my own, without a line's end"
    assert len(kept) == 2
    if shell == "bash":
        assert "_noah_completion" in run("bash", "--rcfile", startup, "-ic", "complete -p noah", cwd=tmp_path, env=env)


def test_a_shell_that_is_not_known_is_asked_for(light: Path, tmp_path: Path) -> None:
    said = run(light / "noah", "completion", "--install", cwd=tmp_path, env={"SHELL": "/bin/rc"}, code=2)
    assert "name one of bash, zsh, fish" in said
