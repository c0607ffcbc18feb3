"""Who asks: a person, or a machine's account, and how the gateway knows. A name alone is never proof of anything.

Two principals are the same if kind, issuer and subject are. Groups, name and proof may differ from login to login.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from noah.errors import Forbidden

LONGEST_NAME = 128  # characters
LONGEST_SUBJECT = 255  # characters; OpenID Connect Core, section 2, "sub"
LONGEST_ISSUER = 300  # characters
LONGEST_GROUP = 255  # characters
MOST_GROUPS = 1000
OPERATORS = "noah:operators"  # the group of those who have the gateway itself: its user, and the first token
_RESERVED = ("system:", "noah:")  # Kubernetes' own names, and ours: nobody outside may call themselves so


class PrincipalKind(StrEnum):
    LOCAL = "local"  # a user of the gateway's machine, as the kernel says
    TOKEN = "token"  # noqa: S105 - a token that this gateway made
    OIDC = "oidc"
    KUBERNETES = "kubernetes"  # whom a cluster's TokenReview names; the issuer is the cluster's name
    PORTAL = "portal"  # what acts for others by its own signature
    PROXY = "proxy"  # whom a trusted reverse proxy names
    CLAIMED = "claimed"  # a name in an old row, which nobody had checked


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    kind: PrincipalKind
    issuer: str  # who vouches for the subject: a provider's URL, a cluster's name, "" for the gateway itself
    subject: str
    name: str = field(compare=False)  # for people to read; not unique
    groups: frozenset[str] = field(default=frozenset(), compare=False)
    proof: str = field(default="", compare=False)  # how the gateway knows, in words: "token t-1a2b3c4d"
    # What asks for this person with a credential of its own, if something does: a portal.
    actor: "Principal | None" = field(default=None, compare=False)
    # The names of the rights that may be used at most, whatever the person may; None: there is no such limit.
    at_most: frozenset[str] | None = field(default=None, compare=False)

    @property
    def id(self) -> str:
        """Return the text that is the same for the same principal and for no other."""
        return json.dumps([self.kind, self.issuer, self.subject], ensure_ascii=False, separators=(",", ":"))

    def public(self) -> dict[str, str]:
        """Return what others may know of it, for JSON."""
        return {"id": self.id, "kind": self.kind, "issuer": self.issuer, "subject": self.subject, "name": self.name}

    def to_json(self) -> dict[str, Any]:
        """Return all of it, as rows keep it."""
        return {
            "kind": self.kind,
            "issuer": self.issuer,
            "subject": self.subject,
            "name": self.name,
            "groups": sorted(self.groups),
            "proof": self.proof,
            "actor": self.actor and self.actor.to_json(),
            "at_most": None if self.at_most is None else sorted(self.at_most),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        return cls(
            kind=PrincipalKind(row["kind"]),
            issuer=row["issuer"],
            subject=row["subject"],
            name=row["name"],
            groups=frozenset(row["groups"]),
            proof=row["proof"],
            actor=row["actor"] and cls.from_json(row["actor"]),
            at_most=None if row["at_most"] is None else frozenset(row["at_most"]),
        )


def principal_from_outside(
    kind: PrincipalKind,
    *,
    issuer: str,
    subject: str,
    name: str | None = None,
    groups: Iterable[str] = (),
    proof: str,
    actor: Principal | None = None,
    at_most: frozenset[str] | None = None,
) -> Principal:
    """Return whom somebody else vouches for. Raises Forbidden for what nobody outside may be called."""
    found = frozenset(groups)
    if not _is_usable(subject, LONGEST_SUBJECT) or not _is_usable(issuer, LONGEST_ISSUER):
        raise Forbidden("Your login has no usable name: it is empty, too long, or cannot be printed.")
    if len(found) > MOST_GROUPS or not all(_is_usable(group, LONGEST_GROUP) for group in found):
        raise Forbidden(f"Your login has more than {MOST_GROUPS} groups, or one whose name cannot be used.")
    for taken in sorted({subject, *found}):
        if taken.lower().startswith(_RESERVED) and not _is_service_account(kind, taken):
            raise Forbidden(f"Your login carries {taken[:80]!r}: no name from outside may begin with that.")
    shown = name if name is not None and _is_usable(name, LONGEST_NAME) else subject[:LONGEST_NAME]
    return Principal(
        kind=kind, issuer=issuer, subject=subject, name=shown, groups=found, proof=proof, actor=actor, at_most=at_most
    )


def _is_service_account(kind: PrincipalKind, name: str) -> bool:
    """True for what a cluster itself calls its ServiceAccounts. They are not people, and carry no more than that."""
    return kind is PrincipalKind.KUBERNETES and name.startswith(("system:serviceaccount:", "system:serviceaccounts"))


def _is_usable(text: str, longest: int) -> bool:
    return bool(text.strip()) and len(text) <= longest and text.isprintable()
