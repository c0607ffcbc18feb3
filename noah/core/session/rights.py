"""What a principal may do: one function of what the configuration grants and of what a cluster's own RBAC says.

Rights are given on areas: a namespace of a cluster, an app on a host, a JVM of the gateway's machine. Where a cluster
knows the principal, its RBAC decides for its pods, and the configuration may add to that; everywhere else the
configuration alone decides, and what it does not grant nobody may. A user of the gateway's own machine, where there is
no login, and the gateway's operators may do everything.

What one may not see does not exist: the sentences here name what was asked for, and nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase

from noah.core.session.principal import OPERATORS, Principal, PrincipalKind
from noah.core.session.target import PodTarget, Target


class Right(StrEnum):
    """Each route names the one that it needs at least."""

    ANYBODY = "anybody"  # asks for no right: probes of machines, and what a browser needs before anybody has logged in
    SEE = "see"  # that a target is there, who debugs it, its releases
    READ_LOGS = "read_logs"  # what a release's containers print
    DEBUG = "debug"  # enable, attach, extend, resume a session of one's own
    FREE = "free"  # resume, extend or end the session of somebody else
    OPERATE = "operate"  # look into clusters and hosts, and at the gateway itself
    READ_TRAIL = "read_trail"  # what everybody did


# A right on the gateway itself is granted by the configuration only. SEE on nothing in particular is to be somebody.
OF_GATEWAY = frozenset({Right.OPERATE, Right.READ_TRAIL})

# What a person's RBAC in a namespace has to allow, as (verb, API group, resource, subresource), all of them. A
# WebSocket's upgrade is a GET, and needs create as well from Kubernetes 1.35 on. "sessions.debug.noah" does not exist
# in a cluster: a Role can grant it all the same, and a cluster's admin has it.
NEEDED: Mapping[Right, tuple[tuple[str, str, str, str], ...]] = {
    Right.SEE: (("get", "", "pods", ""),),
    Right.READ_LOGS: (("get", "", "pods", "log"),),
    Right.DEBUG: (("create", "", "pods", "exec"), ("get", "", "pods", "exec")),
    Right.FREE: (("delete", "debug.noah", "sessions", ""),),
}
AUTHENTICATED = "system:authenticated"  # the group that every user of a cluster has
SYSTEM_NAMESPACES = "kube-*"  # nothing is debugged in them unless the configuration lists them


@dataclass(frozen=True, slots=True)
class Grant:
    """One grant of the configuration. It is everybody's whose name or one of whose groups is in it.

    Those whom a cluster names are called "CLUSTER:NAME" here, and their groups likewise: what a cluster calls somebody
    must not be worth anything outside of it.
    """

    rights: frozenset[Right]
    users: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    areas: tuple[str, ...] = ("*",)  # patterns: host/shop-*/*, local/*, pod/CLUSTER/NAMESPACE; "*" is everything
    # Patterns of the environments that it is limited to, for what is not in a cluster. None: it is not limited.
    environments: tuple[str, ...] | None = None

    def covers(self, right: Right, area: str | None, principal: Principal, *, environment: str | None = None) -> bool:
        # A person who may do something to a target sees it.
        given = right in self.rights or (right is Right.SEE and bool(self.rights - OF_GATEWAY))
        prefix = f"{principal.issuer}:" if principal.kind is PrincipalKind.KUBERNETES else ""
        is_theirs = prefix + principal.subject in self.users or any(prefix + g in self.groups for g in principal.groups)
        if not (given and is_theirs and (area is None or any(_matches(area, pattern) for pattern in self.areas))):
            return False
        if self.environments is None or area is None:
            return True
        return environment is not None and any(fnmatchcase(environment, pattern) for pattern in self.environments)


@dataclass(frozen=True, slots=True)
class Grants:
    """All that decides what one principal may do in one area."""

    configured: Sequence[Grant] = ()
    # What the cluster of the area answered about the principal; None: it did not answer. A right that is not in here
    # was not asked about, since the cluster cannot know the principal.
    reviewed: Mapping[Right, bool | None] = field(default_factory=dict)
    system_namespaces: Sequence[str] = ()  # those in which something may be debugged all the same
    environment: str | None = None  # of the area; None: in a cluster, whose RBAC knows no environments


@dataclass(frozen=True, slots=True)
class Allowed:
    pass


@dataclass(frozen=True, slots=True)
class Denied:
    sentence: str
    is_certain: bool = True  # False: the cluster did not answer, and a session that runs goes on


Verdict = Allowed | Denied
ALLOWED = Allowed()

_DOING = {
    Right.SEE: "see",
    Right.READ_LOGS: "read the logs of",
    Right.DEBUG: "debug",
    Right.FREE: "resume or end somebody else's session of",
    Right.OPERATE: "operate the gateway",
    Right.READ_TRAIL: "read the gateway's trail",
}


def decide(action: Right, area: str | None, principal: Principal, grants: Grants) -> Verdict:
    """Return whether *principal* may do *action*; *area* is None for what concerns the gateway itself."""
    if action is Right.ANYBODY:
        return ALLOWED
    if principal.at_most is not None and action not in principal.at_most:
        actor = principal.actor.name if principal.actor else "what asks for you"
        return Denied(f"{actor} may not {_DOING[action]} for you: do it yourself, at the gateway.")
    if may_do_everything(principal):
        return ALLOWED
    if action is Right.SEE and area is None:
        return ALLOWED
    if area is None or action in OF_GATEWAY:
        if any(grant.covers(action, None, principal) for grant in grants.configured):
            return ALLOWED
        return Denied(f"You may not {_DOING[action]}: the gateway's configuration grants it, as {str(action)!r}.")
    if action is not Right.SEE and _is_closed(area, grants.system_namespaces):
        return Denied(f"Nothing is debugged in {named(area)}, a system namespace that the configuration does not list.")
    if any(grant.covers(action, area, principal, environment=grants.environment) for grant in grants.configured):
        return ALLOWED
    return _as_reviewed(action, area, grants.reviewed)


@dataclass(frozen=True, slots=True)
class KnownAs:
    """A principal as a cluster calls it."""

    user: str
    groups: tuple[str, ...]  # without those that every user of the cluster has


def known_as(principal: Principal, *, cluster: str, user_prefix: str, group_prefix: str) -> KnownAs | None:
    """Return the name and the groups by which a cluster knows *principal*; None if it cannot know it.

    *user_prefix*, *group_prefix*: what the cluster puts before the names of those who log in by OIDC.
    """
    match principal.kind:
        case PrincipalKind.KUBERNETES if principal.issuer == cluster:
            return KnownAs(principal.subject, tuple(sorted(principal.groups - {AUTHENTICATED})))
        case PrincipalKind.OIDC | PrincipalKind.PROXY:
            user, groups = user_prefix + principal.subject, [group_prefix + group for group in principal.groups]
            # Only a cluster itself may call somebody so.
            if user.startswith("system:"):
                return None
            return KnownAs(user, tuple(sorted(group for group in groups if not group.startswith("system:"))))
    return None


def may_do_everything(principal: Principal) -> bool:
    return principal.kind is PrincipalKind.LOCAL or OPERATORS in principal.groups


def area_of(target: Target) -> str:
    """Return the area of a target: "pod/CLUSTER/NAMESPACE", "host/HOST/APP" or "local/NAME"."""
    if isinstance(target, PodTarget):
        return namespace_area(target.cluster, target.namespace)
    return str(target)


def namespace_area(cluster: str, namespace: str) -> str:
    return f"pod/{cluster}/{namespace}"


def place_in_cluster(area: str) -> tuple[str, str] | None:
    """Return the cluster and the namespace of an area that has them."""
    kind, _, rest = area.partition("/")
    cluster, _, namespace = rest.partition("/")
    return (cluster, namespace) if kind == "pod" else None


def named(area: str) -> str:
    place = place_in_cluster(area)
    return area if place is None else f"namespace {place[1]} of cluster {place[0]}"


def _as_reviewed(action: Right, area: str, reviewed: Mapping[Right, bool | None]) -> Verdict:
    refusal = f"You may not {_DOING[action]} {'pods in ' if area.startswith('pod/') else ''}{named(area)}"
    match reviewed.get(action, False):
        case True:
            return ALLOWED
        case None:
            return Denied(f"{refusal} as long as its cluster does not answer whether you may.", is_certain=False)
    if action not in reviewed:
        return Denied(f"{refusal}: the gateway's configuration grants it, in [[grants]].")
    wanted = " and ".join(f"{verb} {_resource(*what)}" for verb, *what in NEEDED[action])
    return Denied(f"{refusal}: ask for the right to {wanted} there.")


def _resource(group: str, resource: str, subresource: str) -> str:
    return resource + (f".{group}" if group else "") + (f"/{subresource}" if subresource else "")


def _is_closed(area: str, listed: Sequence[str]) -> bool:
    place = place_in_cluster(area)
    return place is not None and fnmatchcase(place[1], SYSTEM_NAMESPACES) and place[1] not in listed


def _matches(area: str, pattern: str) -> bool:
    """Compare part by part: a star does not reach over a slash."""
    if pattern == "*":
        return True
    parts, patterns = area.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))
