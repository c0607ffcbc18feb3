"""What people type to name a target or a session, and which one of the gateway's they mean.

As in kubectl, `deployment/shop` is `deploy/shop`, `statefulset/db` is `sts/db`, and `-n` says where a short name is
looked for, or --env and NOAH_ENV in which environment. A full name is what it says, wherever that is.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar
from urllib.parse import quote

import click
from click.core import ParameterSource

from noah.cli.completion import complete_clusters, complete_environments, complete_namespaces
from noah.client.gateway_client import SESSION_ID, GatewayClient, Json, session_path, target_path
from noah.core.session.target import PodTarget, Wanted, WantedPod, parse_target, parse_wanted
from noah.core.workload import SHORT_NAMES, workload_kind_of
from noah.errors import BadInput, NotFound

_Command = TypeVar("_Command", bound=Callable[..., Any])

_PODS = ("po", "pod", "pods")


@dataclass(frozen=True, slots=True)
class Place:
    """The place in which a short name is looked for: what --cluster, -n and --env say."""

    cluster: str | None = None
    namespace: str | None = None
    environment: str | None = None

    @property
    def is_in_cluster(self) -> bool:
        return bool(self.cluster or self.namespace)


def _unless_placed(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Return the environment; not that of NOAH_ENV where -n or --cluster say something else."""
    is_general = ctx.get_parameter_source(param.name or "") is ParameterSource.ENVIRONMENT
    is_placed = is_general and (ctx.params.get("namespace") or ctx.params.get("cluster"))
    return None if is_placed else (value or "").strip() or None


def environment_option(help: str) -> Callable[[_Command], _Command]:
    return click.option(
        "--env",
        "environment",
        metavar="NAME",
        envvar="NOAH_ENV",
        help=help,
        shell_complete=complete_environments,
        callback=_unless_placed,
    )


def nothing(gateway: GatewayClient, things: str, environment: str | None) -> str:
    """Return what is said when none are found: where they were looked for may come from NOAH_ENV."""
    if environment is None:
        return f"No {things} found."
    if missing := missing_environment(gateway, environment):
        return f"No {things} found. {missing}"
    return f"No {things} found in environment {environment}: `noah environments` lists what there is."


def missing_environment(gateway: GatewayClient, name: str) -> str | None:
    """Return the gateway's sentence if there is no environment of that name."""
    try:
        gateway.get(f"/environments/{quote(name, safe='')}")
    except NotFound as e:
        return e.sentence
    return None


def place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command that takes a target's name --cluster, -n and --env, as one argument, its *place*."""

    @wraps(command)
    def with_place(*, cluster: str | None, namespace: str | None, environment: str | None, **more: Any) -> Any:
        return command(place=Place(cluster, namespace, environment), **more)

    namespace = click.option(
        "-n", "--namespace", metavar="NAME", help="Where a short name is.", shell_complete=complete_namespaces
    )
    cluster = click.option("--cluster", metavar="NAME", help="Where a short name is.", shell_complete=complete_clusters)
    return cluster(namespace(environment_option("The environment that a short name is in.")(with_place)))


def full_name(gateway: GatewayClient, text: str, place: Place) -> str:
    """Return the name by which the API knows *text*. In an environment, a short name stands for one target there."""
    wanted = _wanted(gateway, text, place)
    environment = _environment_of(wanted, place)
    if environment is None:
        return str(wanted)
    try:
        return str(gateway.get(target_path(str(wanted)), {"environment": environment})["target"])
    except NotFound as e:
        raise NotFound(missing_environment(gateway, environment) or e.sentence) from None


def _environment_of(wanted: Wanted, place: Place) -> str | None:
    """Return the environment in which *wanted* is looked for; None for a name that says itself where it is."""
    is_short = _is_short(wanted) or (place.is_in_cluster and isinstance(wanted, WantedPod) and wanted.pod is None)
    return place.environment if is_short else None


def _wanted(gateway: GatewayClient, text: str, place: Place) -> Wanted:
    cluster, namespace = place.cluster, place.namespace
    if namespace and not cluster:
        cluster = only_cluster(gateway)
    return parse_wanted(expand(text, cluster=cluster, namespace=namespace))


def _is_short(wanted: Wanted) -> bool:
    return isinstance(wanted, WantedPod) and wanted.namespace is None


def only_cluster(gateway: GatewayClient) -> str:
    names = [str(item.get("name")) for item in gateway.clusters()["items"]]
    if len(names) != 1:
        known = f" The gateway knows {', '.join(names)}." if names else " The gateway knows none."
        raise BadInput("Say in which cluster, with --cluster." + known)
    return names[0]


def expand(text: str, *, cluster: str | None, namespace: str | None) -> str:
    """Return *text* with the cluster and the namespace given beside it. Raises BadInput if the two do not fit."""
    kind, *rest = text.split("/")
    if kind in _PODS:
        kind = "pod"
    elif workload_kind := workload_kind_of(kind):
        kind = SHORT_NAMES[workload_kind]
    if kind in ("host", "local") or (kind == "pod" and len(rest) >= 3):
        if cluster or namespace:
            raise BadInput(f"{text[:80]!r} says where it is: leave out --cluster and -n.")
        return "/".join([kind, *rest])
    if cluster and not namespace:
        raise BadInput(f"Say in which namespace of {cluster}, with -n.")
    if cluster:
        name = rest if kind == "pod" else [kind, *rest]
        return "/".join(["pod", cluster, str(namespace), *name])
    if kind == "pod":
        raise BadInput(f"Say where {text[:80]!r} is: with --cluster and -n, or as pod/CLUSTER/NAMESPACE/POD.")
    return "/".join([kind, *rest])


def find_session(gateway: GatewayClient, text: str, place: Place, *, otherwise: str = "") -> str:
    """Return the ID of the session that *text* means: an ID, or a target that is being debugged.

    *otherwise* ends the sentence of NotFound for a target that nobody is debugging.
    """
    if SESSION_ID.fullmatch(text) and not place.is_in_cluster:
        return text
    wanted = _wanted(gateway, text, place)
    environment = _environment_of(wanted, place)
    live = gateway.items("/sessions", {"state": "live", "environment": environment})["items"]
    found = [session for session in live if means(wanted, session)]
    if not found and environment and (missing := missing_environment(gateway, environment)):
        raise NotFound(missing)
    return _one_of(found, text, otherwise)


def get_session(gateway: GatewayClient, text: str, place: Place) -> Json:
    return gateway.get(session_path(find_session(gateway, text, place)))


def means(wanted: Wanted, session: Json) -> bool:
    """Return whether *session* is on *wanted*: for a workload on any of its pods, for an app on any of its targets."""
    target = parse_target(session["target"])
    if not isinstance(wanted, WantedPod):
        return target == wanted
    if not isinstance(target, PodTarget):
        is_app = wanted.app is not None and wanted.container is None and _is_short(wanted)
        return is_app and wanted.app == session.get("app")
    return all(
        asked in (None, there)
        for asked, there in (
            (wanted.cluster, target.cluster),
            (wanted.namespace, target.namespace),
            (wanted.pod, target.pod),
            (wanted.container, target.container),
            (wanted.workload_name, session.get("workload")),
            (wanted.app, session.get("app")),
        )
    )


def _one_of(sessions: Iterable[Json], text: str, otherwise: str) -> str:
    found = list(sessions)
    mine = [session for session in found if session.get("mine")]
    match [str(session["id"]) for session in (mine or found)]:
        case [session_id]:
            return session_id
        case []:
            raise NotFound(f"Nobody is debugging {text[:80]}: `noah sessions` lists who debugs what{otherwise}.")
        case several:
            raise BadInput(f"{text[:80]} means several sessions: say which of {', '.join(several)}.")
