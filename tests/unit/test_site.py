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
from noah.help import explanations
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


def test_every_code_of_an_error_is_explained_and_every_explanation_is_of_one() -> None:
    assert sorted(explanations()) == sorted({error.code for error in site.errors()})


def test_every_sentence_that_is_explained_is_one_of_the_products() -> None:
    code = "\n".join(file.read_text() for file in (ROOT / "noah").rglob("*.py"))
    joined = re.sub(r'"\s*\n\s*f?"', "", code)  # a sentence over several lines
    said = [one for text in explanations().values() for one in re.findall(r"^(?:- )?\*([^*]+)\*", text, re.MULTILINE)]
    assert len(said) > 10
    parts = [part for one in said for part in re.split(r" ?… ?|\(…\)", one)]
    assert [part for part in parts if part not in joined] == []


def test_the_sites_page_has_each_sentence_below_its_code() -> None:
    page = site.with_sentences((ROOT / "docs/troubleshooting.md").read_text())
    already = page[page.index("## already-debugged") : page.index("## another-gateway")]
    assert "<li>… is already debugging … (session …): ask them to end it.</li>" in already
    unavailable = page[page.index("## unavailable") : page.index("## unexpected")]
    assert "<li>The gateway is stopping.</li>" in unavailable
    assert sum(map(len, site.sentences().values())) > 250


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
