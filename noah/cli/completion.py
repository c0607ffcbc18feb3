"""What the shell is offered when somebody presses the tabulator key. What goes wrong here is never shown: the shell
would print it into the line that is being typed."""

import sys
from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem, ShellComplete, get_completion_class

from noah.client.gateway import Gateway, Json, connect
from noah.core.workload import WorkloadKind
from noah.errors import NoahError

VARIABLE = "_NOAH_COMPLETE"

PATIENCE = 1.0  # seconds to connect, and to answer; nobody waits longer for a proposal
SHELLS = ["bash", "zsh", "fish"]
OFFERED = 200  # targets; more than that is no help to a reader

_Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem[str]]]


def _asks_gateway(find: Callable[[Gateway, click.Context, str], Iterable[tuple[str, str]]]) -> _Complete:
    """*find* gives values with what a shell may show beside them."""

    def complete(ctx: click.Context, _: click.Parameter, typed: str) -> list[CompletionItem[str]]:
        try:
            found = list(find(connect(connect=PATIENCE, answer=PATIENCE), ctx, typed))
        except (click.ClickException, NoahError, LookupError, TypeError, AttributeError):
            return []
        return [CompletionItem(value, help=shown) for value, shown in found if value.startswith(typed)]

    return complete


@_asks_gateway
def complete_targets(gateway: Gateway, ctx: click.Context, typed: str) -> Iterable[tuple[str, str]]:
    cluster, namespace = ctx.params.get("cluster"), ctx.params.get("namespace")
    if namespace:
        return _short_names(gateway.items("/targets", {"cluster": cluster, "namespace": namespace})["items"])
    # The API looks for a substring, which what was typed of a full name is.
    items = gateway.items("/targets", {"q": typed}, limit=OFFERED)["items"]
    return [(item["target"], item["app"]) for item in items]


@_asks_gateway
def complete_sessions(gateway: Gateway, _: click.Context, typed: str) -> Iterable[tuple[str, str]]:
    """By their IDs, and by the targets that they are on once one begins to type one."""
    live = gateway.items("/sessions", {"state": "live"})["items"]
    ids = [(item["id"], f"{item['target']} ({item['owner']})") for item in live]
    return ids + [(item["target"], item["owner"]) for item in live if typed]


@_asks_gateway
def complete_clusters(gateway: Gateway, _: click.Context, typed: str) -> Iterable[tuple[str, str]]:
    items = gateway.clusters()["items"]
    return [(item["name"], "reachable" if item["reachable"] else "cannot be reached") for item in items]


@_asks_gateway
def complete_namespaces(gateway: Gateway, ctx: click.Context, typed: str) -> Iterable[tuple[str, str]]:
    apps = gateway.items("/apps", {"cluster": ctx.params.get("cluster")})["items"]
    return [(name, "") for name in sorted({app["namespace"] for app in apps if app.get("namespace")})]


@_asks_gateway
def complete_apps(gateway: Gateway, ctx: click.Context, typed: str) -> Iterable[tuple[str, str]]:
    where = {"cluster": ctx.params.get("cluster"), "namespace": ctx.params.get("namespace")}
    return [(name, "") for name in sorted({app["app"] for app in gateway.items("/apps", where)["items"]})]


def _short_names(items: Iterable[Json]) -> list[tuple[str, str]]:
    """deploy/NAME once for all pods of a deployment, pod/NAME for each pod."""
    found: dict[str, str] = {}
    for item in items:
        kind, _, name = (item.get("workload") or "").partition("/")
        if kind == WorkloadKind.DEPLOYMENT:
            found[f"deploy/{name}"] = item["app"]
        found["/".join(["pod", *item["target"].split("/")[3:]])] = item["app"]
    return sorted(found.items())


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Make a shell complete commands and names.

    \b
      bash   eval "$(noah completion bash)"     in ~/.bashrc
      zsh    eval "$(noah completion zsh)"      in ~/.zshrc, after compinit
      fish   noah completion fish | source      in ~/.config/fish/config.fish

    `kubectl noah` completes once kubectl's own completion does: it finds the command kubectl_complete-noah by itself.
    """
    click.echo(_completer(get_completion_class(shell)).source(), nl=False)


def _completer(kind: type[ShellComplete] | None) -> ShellComplete:
    from noah.cli import noah

    assert kind is not None
    return kind(noah, {}, "noah", VARIABLE)


def for_kubectl() -> None:
    """The command kubectl_complete-noah: kubectl gives it the words after `kubectl noah`, the last one unfinished,
    and reads one proposal per line and the directives of Go's cobra: 4 is "offer no file names"."""
    *words, typed = sys.argv[1:] or [""]
    for item in _completer(ShellComplete).get_completions(words, typed):
        click.echo(f"{item.value}\t{item.help}" if item.help else item.value)
    click.echo(":4")
