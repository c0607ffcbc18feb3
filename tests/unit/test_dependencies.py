"""What the packages depend on is what their code imports: the command line alone, and the server."""

import ast
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# What a command that speaks to a gateway imports; the other rooms are the server's.
CLIENT = {"__init__", "__main__", "backoff", "cli", "client", "connect", "core", "duration", "errors", "help", "inpod"}
OPTIONAL = {"uvloop", "keyring"}
NAMESPACE = "opentelemetry"  # of many packages; those of the extra `traces`


def names(requirements: Iterable[str]) -> set[str]:
    return {
        "".join(c if c.isalnum() or c in "-_." else " " for c in one).split()[0].lower().replace("_", "-")
        for one in requirements
    }


def imported(files: Iterable[Path]) -> set[str]:
    """The packages that are imported, anywhere in *files*."""
    packages = packages_distributions()
    found = {module for file in files for module in modules(ast.parse(file.read_text()))}
    return {
        packages[module][0].lower().replace("_", "-")
        for module in found - set(sys.stdlib_module_names) - {"noah", NAMESPACE}
    }


def modules(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def sources(*, of_the_server: bool) -> list[Path]:
    files = (ROOT / "noah").rglob("*.py")
    return [
        file
        for file in files
        if (file.relative_to(ROOT / "noah").parts[0].removesuffix(".py") not in CLIENT) == of_the_server
    ]


def test_the_command_line_needs_nothing_but_its_own_dependencies() -> None:
    assert imported(sources(of_the_server=False)) - OPTIONAL == names(PROJECT["dependencies"])


def test_the_server_needs_nothing_but_its_extra() -> None:
    declared = names(PROJECT["dependencies"]) | names(PROJECT["optional-dependencies"]["server"]) | OPTIONAL
    assert imported(sources(of_the_server=True)) <= declared
