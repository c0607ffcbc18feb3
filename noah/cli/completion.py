"""Completion: what the shell offers when somebody presses the tabulator key.

A failure is never shown: the shell would print it into the line that is being typed.
"""

import os
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import click
from click.shell_completion import CompletionItem, ShellComplete, get_completion_class

from noah.cli.terminal import echo
from noah.client.environment import client_from_environment
from noah.client.gateway_client import GatewayClient, Json
from noah.core.printable import printable
from noah.core.release.release import PATHS
from noah.core.workload import SHORT_NAMES, in_pod_name, workload_kind_of
from noah.errors import BadInput, NoahError

LONGEST_WAIT_S = 1.0  # to connect, and for the answer; nobody waits longer for a proposal
SHELLS = ["bash", "zsh", "fish"]
MOST_OFFERED = 200  # more proposals than that do not help a reader

_Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem[str]]]


def _asks_gateway(find: Callable[[GatewayClient, click.Context, str], Iterable[tuple[str, str]]]) -> _Complete:
    """Make a completer of *find*, which returns values, each with what a shell may show beside it."""

    def complete(ctx: click.Context, _: click.Parameter, typed: str) -> list[CompletionItem[str]]:
        try:
            found = list(find(client_from_environment(connect_s=LONGEST_WAIT_S, answer_s=LONGEST_WAIT_S), ctx, typed))
        except (click.ClickException, NoahError, LookupError, TypeError, AttributeError):
            return []
        # A name that a terminal cannot show is not put into anybody's command line.
        named = [(value, printable(shown)) for value, shown in found if value.isprintable()]
        return [CompletionItem(value, help=shown) for value, shown in named if value.startswith(typed)]

    return complete


@_asks_gateway
def complete_targets(gateway: GatewayClient, ctx: click.Context, typed: str) -> Iterable[tuple[str, str]]:
    wanted = _where(ctx)
    namespace, environment = wanted["namespace"], wanted["environment"]
    if typed.startswith("app="):
        named = _names(gateway, wanted, typed.removeprefix("app="), of="apps")
        return [(f"app={app}", "") for app, _ in named]
    if "/" in typed:
        # The API looks for a part of a full name; of a short one that is what follows its kind.
        wanted["q"] = in_pod_name(typed.rpartition("/")[2]) if namespace or environment else typed
    items = gateway.items("/targets", wanted, limit=MOST_OFFERED)["items"]
    full = [(item["target"], item["app"]) for item in items]
    if namespace:
        in_namespace = (("/".join(["pod", *item["target"].split("/")[3:]]), item["app"]) for item in items)
        return [*_workloads(items), *in_namespace]
    if environment:
        apps = [(f"app={app}", "") for app in sorted({item["app"] for item in items})]
        return [*_workloads(items), *apps, *full]
    return full


@_asks_gateway
def complete_workloads(gateway: GatewayClient, ctx: click.Context, typed: str) -> Iterable[tuple[str, str]]:
    """Offer the workloads that have releases."""
    wanted = _where(ctx) | {"kind": "pod"}
    if "/" in typed:
        wanted["q"] = in_pod_name(typed.rpartition("/")[2])
    kinds = {SHORT_NAMES[kind] for kind in PATHS}
    named = _workloads(gateway.items("/targets", wanted, limit=MOST_OFFERED)["items"])
    return [(name, app) for name, app in named if name.partition("/")[0] in kinds]


@_asks_gateway
def complete_sessions(gateway: GatewayClient, ctx: click.Context, typed: str) -> Iterable[tuple[str, str]]:
    """Offer sessions by their IDs, and by their targets once somebody begins to type one."""
    target = typed if "/" in typed else None
    wanted = {"state": "live", "environment": ctx.params.get("environment"), "target": target}
    live = gateway.items("/sessions", wanted, limit=MOST_OFFERED)["items"]
    ids = [(item["id"], f"{item['target']} ({item['owner']})") for item in live]
    return ids + [(item["target"], item["owner"]) for item in live if typed]


@_asks_gateway
def complete_environments(gateway: GatewayClient, _: click.Context, typed: str) -> Iterable[tuple[str, str]]:
    items = gateway.items("/environments", {"q": typed}, limit=MOST_OFFERED)["items"]
    return [(item["name"], f"{item['targets']} targets") for item in items]


@_asks_gateway
def complete_clusters(gateway: GatewayClient, _: click.Context, typed: str) -> Iterable[tuple[str, str]]:
    items = gateway.clusters()["items"]
    return [(item["name"], "reachable" if item["reachable"] else "cannot be reached") for item in items]


@_asks_gateway
def complete_namespaces(gateway: GatewayClient, ctx: click.Context, typed: str) -> Iterable[tuple[str, str]]:
    return _names(gateway, _where(ctx) | {"namespace": None}, typed, of="namespaces")


@_asks_gateway
def complete_apps(gateway: GatewayClient, ctx: click.Context, typed: str) -> Iterable[tuple[str, str]]:
    return _names(gateway, _where(ctx), typed, of="apps")


def _where(ctx: click.Context) -> dict[str, str | None]:
    """Return what has been said so far of where something is."""
    return {key: ctx.params.get(key) for key in ("environment", "cluster", "namespace")}


def _names(
    gateway: GatewayClient, where: Mapping[str, str | None], typed: str, *, of: str
) -> Iterable[tuple[str, str]]:
    return [(name, "") for name in gateway.get("/names", {"of": of, "prefix": typed, **where})["items"]]


def _workloads(items: Iterable[Json]) -> list[tuple[str, str]]:
    """Return deploy/NAME, sts/NAME and so on once for all pods of a workload, each with its app."""
    found: dict[str, str] = {}
    for item in items:
        kind, _, name = (item.get("workload") or "").partition("/")
        if workload_kind := workload_kind_of(kind):
            found[f"{SHORT_NAMES[workload_kind]}/{name}"] = item["app"]
    return sorted(found.items())


@click.command()
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@click.option("--install", is_flag=True, help="Keep it for the shells to come, instead of printing it.")
def completion(shell: str | None, *, install: bool) -> None:
    """Make a shell complete commands and names.

    \b
      noah completion --install        for the shell of $SHELL: once, and again after an upgrade
      eval "$(noah completion bash)"   for this shell only; also zsh (after compinit) and fish

    `kubectl noah` completes once kubectl's own completion does: it finds the command kubectl_complete-noah by itself.
    """
    shell = shell or Path(os.environ.get("SHELL", "")).name
    if shell not in SHELLS:
        raise BadInput(f"Your shell is not known: name one of {', '.join(SHELLS)}.")
    source = _completer(get_completion_class(shell)).source()
    if not install:
        echo(source, nl=False)
        return
    for file in _kept(shell, source):
        echo(f"wrote {file}")
    echo(f"A {shell} that starts from now on completes noah.")


def _kept(shell: str, source: str) -> list[Path]:
    """Write *source* where the shell finds it, and return the files that were written."""
    home = Path.home()
    if shell == "fish":  # which reads this folder by itself
        file = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "fish/completions/noah.fish"
        _write(file, source)
        return [file]
    file = Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share") / f"noah/completion.{shell}"
    _write(file, source)
    startup = (Path(os.environ.get("ZDOTDIR") or home) / ".zshrc") if shell == "zsh" else home / ".bashrc"
    line = f"source {shlex.quote(str(file))}"
    if shell == "zsh":
        line = f"autoload -Uz compinit && {{ (( $+functions[compdef] )) || compinit }} && {line}"
    try:
        lines = startup.read_text(encoding="utf-8", errors="surrogateescape") if startup.exists() else ""
    except OSError as e:
        raise BadInput(f"{startup} cannot be read: {e.strerror}.") from None
    if line in lines.splitlines():
        return [file]
    _write(startup, f"{lines}{'' if lines.endswith(chr(10)) or not lines else chr(10)}{line}\n")
    return [file, startup]


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", errors="surrogateescape")
    except OSError as e:
        raise BadInput(f"{file} cannot be written: {e.strerror}.") from None


def _completer(kind: type[ShellComplete] | None) -> ShellComplete:
    from noah.cli import COMPLETION_VARIABLE, noah

    assert kind is not None
    return kind(noah, {}, "noah", COMPLETION_VARIABLE)


def for_kubectl() -> None:
    """The command kubectl_complete-noah: kubectl gives it the words after `kubectl noah`, the last one unfinished,
    and reads one proposal per line and the directives of Go's cobra: 4 is "offer no file names"."""
    *words, typed = sys.argv[1:] or [""]
    for item in _completer(ShellComplete).get_completions(words, typed):
        echo(f"{item.value}\t{item.help}" if item.help else item.value)
    echo(":4")
