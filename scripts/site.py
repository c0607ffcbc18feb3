"""What the site's generator is given beside docs/: the reference, made from the code, and links that leave docs/.

mkdocs calls the functions by their names.
"""

import ast
import html
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import noah
from noah.cli import COMMANDS
from noah.cli import noah as command_line
from noah.errors import NoahError
from noah.web.api.openapi import document
from noah.web.api.routes import ROUTES

ROOT = Path(__file__).parents[1]
SETTINGS = ROOT / "noah/settings.py"
# The tables of the file, with the class that each is read into.
TABLES = {
    "before the first table": "Settings",
    "[gateway]": "GatewaySettings",
    "[sessions]": "SessionSettings",
    "[[clusters]]": "ClusterSettings",
    "[[cluster_folders]]": "ClusterFolder",
    "[[cluster_secrets]]": "ClusterSecrets",
    "[[inventory]]": "InventorySettings",
    "[access]": "AccessSettings",
    "[[access.oidc]]": "OidcSettings",
    "[[access.kubernetes]]": "KubernetesLoginSettings",
    "[access.proxy]": "ProxyLoginSettings",
    "[[access.portals]]": "PortalSettings",
    "[[grants]]": "GrantSettings",
    "[trail]": "TrailSettings",
    "[webhook]": "WebhookSettings",
    "[[local]]": "Local",
    "[[hosts]]": "Host",
    "[[hosts.apps]]": "HostApp",
}
# Keys that are tables of their own.
PARTS = {table.strip("[]").rpartition(".")[2] for table in TABLES}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, text in (("settings", settings()), ("commands", commands()), ("api", api())):
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Keep the text alone of links out of docs/, to code that is read in a checkout; and list the errors' sentences."""
    if page.file.src_uri == "troubleshooting.md":
        return with_sentences(markdown)
    is_at_the_top = "/" not in page.file.src_uri
    return re.sub(r"\[([^\]]+)\]\(\.\./[^)]*\)", r"\1", markdown) if is_at_the_top else markdown


def settings() -> str:
    """Return the tables of the configuration; what is said of a key is its comment in noah/settings.py."""
    source = SETTINGS.read_text()
    classes = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
    parts = [
        "# Settings\n",
        "`noah serve` reads one TOML file: what `--config` or `NOAH_CONFIG` names, or `config/noah.toml`.",
    ]
    parts.append("A key that is not known is an error that names it. An example of each key is in config/noah.toml.\n")
    for table, name in TABLES.items():
        parts += [f"\n## `{table}`\n", "| key | default | |", "| --- | --- | --- |"]
        parts += [f"| `{key}` | {default} | {about} |" for key, default, about in _keys(classes, name, source)]
    return "\n".join(parts) + "\n"


def _keys(classes: dict[str, ast.ClassDef], name: str, source: str) -> Iterator[tuple[str, str, str]]:
    lines = source.splitlines()
    own = classes[name].body
    bases = [ast.unparse(base) for base in classes[name].bases]
    inherited = [node for base in bases if base in classes for node in classes[base].body]
    seen = {node.target.id for node in own if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    for node in [*own, *inherited]:
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        key = node.target.id
        if key in PARTS or (node in inherited and key in seen):
            continue
        default = "has to be set" if node.value is None else f"`{_plain(ast.unparse(node.value))}`"
        yield key, default, _comment(lines, node).replace("|", "\\|")


def _plain(value: str) -> str:
    """Return a default as the file would have it."""
    if found := re.fullmatch(r"timedelta\((\w+)=(\d+)\)", value):
        return f"{found[2]}{found[1][0]}"
    plain = re.sub(r"^Path\((.*)\)$", r"\1", value).replace("'", '"')
    return {"None": "none", "()": "[]", "False": "false", "True": "true"}.get(plain, plain)


def _comment(lines: list[str], node: ast.AnnAssign) -> str:
    beside = lines[(node.end_lineno or node.lineno) - 1][node.end_col_offset or 0 :].partition("#")[2].strip()
    before: list[str] = []
    for line in reversed(lines[: node.lineno - 1]):
        if not line.strip().startswith("#"):
            break
        before.insert(0, line.strip().lstrip("# "))
    text = " ".join([*before, beside]).strip()
    return text[:1].upper() + text[1:]


def commands() -> str:
    """Return the help of each command."""
    context = click.Context(command_line, info_name="noah", terminal_width=100)
    parts = ["# Command line\n", "```text", command_line.get_help(context), "```"]
    for name in COMMANDS:
        command = getattr(importlib.import_module(f"noah.cli.{COMMANDS[name]}"), name.replace("-", "_"))
        parts += _help(command, name, context)
    return "\n".join(parts) + "\n"


def _help(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent, terminal_width=100)
    yield from (f"\n## {context.command_path}\n", "```text", command.get_help(context), "```")
    if isinstance(command, click.Group):
        for sub, one in command.commands.items():
            yield from _help(one, sub, context)


def with_sentences(markdown: str) -> str:
    """Return the page with all sentences of a code below what it says of that."""
    of_code = sentences()

    def listed(found: re.Match[str]) -> str:
        items = "".join(f"<li>{html.escape(one)}</li>" for one in sorted(of_code.get(found[1], ())))
        folded = f"\n<details><summary>Its sentences</summary><ul>{items}</ul></details>\n" if items else ""
        return f"{found[0].rstrip()}\n{folded}\n"

    return re.sub(r"^## ([\w-]+)$(?:\n(?!## ).*)*\n?", listed, markdown, flags=re.MULTILINE)


def sentences() -> dict[str, set[str]]:
    """Return what the code says in errors, by their code."""
    code_of = {one.__name__: one.code for one in errors()}
    found: dict[str, set[str]] = {}
    for file in sorted((ROOT / "noah").rglob("*.py")):
        for name, call in _calls(ast.parse(file.read_text()), name=""):
            if name in code_of and call.args and re.search(r"\w{2} \w", text := _text(call.args[0])):
                found.setdefault(code_of[name], set()).add(text)
    return found


def _calls(node: ast.AST, name: str) -> Iterator[tuple[str, ast.Call]]:
    """Yield the calls within *node*, by what is called: a class itself where it calls super().__init__()."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call) and isinstance(child.func, ast.Name):
            yield child.func.id, child
        elif isinstance(child, ast.Call) and isinstance(child.func, ast.Attribute) and child.func.attr == "__init__":
            yield name, child
        yield from _calls(child, child.name if isinstance(child, ast.ClassDef) else name)


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else "…"


def errors() -> Iterator[type[NoahError]]:
    """Yield each class of errors that the product has."""
    for module in pkgutil.walk_packages(noah.__path__, "noah."):
        if not re.search(r"migrations|__main__", module.name):
            importlib.import_module(module.name)
    waiting = [NoahError]
    while waiting:
        one = waiting.pop()
        waiting += one.__subclasses__()
        yield one


def api() -> str:
    """Return the calls of the HTTP API."""
    described: dict[str, Any] = document(ROUTES)
    parts = [
        "# HTTP API\n",
        "The gateway describes it at `/openapi.json`. Errors are problems as in RFC 9457: `detail` is a sentence,",
        "`type` a link to what [its code](../troubleshooting.md) means.\n",
        "| call | |",
        "| --- | --- |",
    ]
    for path, methods in described["paths"].items():
        parts += [
            f"| `{method.upper()} {path}` | {operation.get('summary', '')} |" for method, operation in methods.items()
        ]
    return "\n".join(parts) + "\n"
