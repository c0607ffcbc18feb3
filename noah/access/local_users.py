"""The users of the gateway's own machine who may use it without a login: the kernel says whose a connection is."""

import os
import pwd
from collections.abc import Sequence

from noah.core.session.principal import OPERATORS, Principal, PrincipalKind
from noah.errors import BadSettings


class LocalUsers:
    """The users of this machine who may use the gateway: its own user, and those whom the settings name."""

    def __init__(self, users: Sequence[str]) -> None:
        """*users*: names or uids, beside the gateway's own. Raises BadSettings for a name that nobody has."""
        self._uids = frozenset({os.getuid(), *map(_uid, users)})

    def principal(self, uid: int) -> Principal | None:
        if uid not in self._uids:
            return None
        name = name_of(uid)
        return Principal(
            kind=PrincipalKind.LOCAL,
            issuer="",
            subject=name,
            name=name,
            # Who runs the gateway has its files: there is nothing that it could keep from them.
            groups=frozenset({OPERATORS}) if uid == os.getuid() else frozenset(),
            proof=f"uid {uid} of this machine",
        )


def name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid-{uid}"


def _uid(user: str) -> int:
    try:
        return int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
    except KeyError:
        raise BadSettings(f"local_users of [access]: this machine has no user {user[:60]!r}.") from None
