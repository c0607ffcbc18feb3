"""The site of docs/: no link leads nowhere, and what it says is in the code."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from noah.cli import COMMANDS
from noah.settings import Settings
from scripts import site

ROOT = Path(__file__).parents[2]
PAGES = sorted(file for file in (ROOT / "docs").rglob("*.md"))


def test_it_is_built_without_a_warning(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    argv = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "--site-dir", str(tmp_path / "site")]
    said = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    assert (tmp_path / "site/reference/settings.html").exists()


def test_every_sentence_of_the_troubleshooting_is_one_of_the_products() -> None:
    code = "\n".join(file.read_text() for file in (ROOT / "noah").rglob("*.py"))
    joined = re.sub(r'"\s*\n\s*f?"', "", code)  # a sentence over several lines
    headings = re.findall(r'^## "(.*)"$', (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE)
    assert len(headings) > 10
    assert [heading for heading in headings if heading not in joined] == []


def test_the_reference_has_every_key_of_the_configuration() -> None:
    text = site.settings()
    assert [key for key in keys(Settings) if f"| `{key}` |" not in text and f"{key}]" not in text] == []


def keys(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield name
        for part in re.findall(r"noah\.settings\.(\w+)", str(field.annotation)):
            inner = getattr(sys.modules["noah.settings"], part)
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from keys(inner)


@pytest.mark.parametrize("page", PAGES, ids=lambda file: file.name)
def test_commands_that_pages_name_are_there(page: Path) -> None:
    named = set(re.findall(r"(?:^|`|-- )noah ([a-z][a-z-]+)", page.read_text(), re.MULTILINE))
    assert named <= set(COMMANDS)
