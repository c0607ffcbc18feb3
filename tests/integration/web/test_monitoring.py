"""The alert rules and the dashboard: they ask for metrics that the gateway has, and the rules do what they say."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.web.conftest import Gateway

ROOT = Path(__file__).parents[3]
MONITORING = ROOT / "deploy/chart/monitoring"
NAME = re.compile(r"\b(?:noah|process)_[a-z_]+\b")


async def test_what_is_asked_for_is_there(gateway: Gateway) -> None:
    async with gateway.http.get(f"{gateway.url}/metrics", headers=gateway.api.headers()) as answer:
        text = await answer.text()
    there = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)) | set(NAME.findall(text))
    there |= {f"{name}_total" for name in there} | {f"{name}_bucket" for name in there}
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked = {name for one in expressions for name in NAME.findall(one)}
    asked |= set(NAME.findall((MONITORING / "alerts.yaml").read_text()))
    assert len(asked) > 10
    assert asked - there == set()


def test_the_alerts_do_what_they_say(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: it judges the alert rules (Debian's package prometheus)")
    for file in (MONITORING / "alerts.yaml", ROOT / "tests/chart/alerts.test.yaml"):
        shutil.copy(file, tmp_path)
    for argv in (["check", "rules", "alerts.yaml"], ["test", "rules", "alerts.test.yaml"]):
        said = subprocess.run(["promtool", *argv], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert said.returncode == 0, said.stdout + said.stderr
