"""Who is logged in: a random ID, which a browser's cookie or a command line has, and a row with its hash.

A row lasts as long as the settings say, since its last use and at all, and is gone at once when it is removed. What a
provider gave for it is sealed with a key made from the ID, which only the client has: a stolen database opens nothing.
"""

import asyncio
import base64
import hashlib
import secrets
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from noah.core.session.principal import Principal
from noah.store.logins import LoginStore

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

PREFIX = "noah_login_"  # no other token begins so
ID_BYTES = 32
LONGEST_ID = 100  # characters; ours have 54


class Logins:
    def __init__(self, store: LoginStore, *, idle: timedelta) -> None:
        self._store = store
        self._idle = idle

    async def open(self, principal: Principal, *, lasts: timedelta, secret: bytes | None = None) -> str:
        """Log somebody in; return the ID, for the client. *secret* is kept sealed."""
        login_id = PREFIX + secrets.token_urlsafe(ID_BYTES)
        sealed = None if secret is None else _fernet(login_id).encrypt(secret)
        await self._store.add(_hash(login_id), principal, lasts=lasts, sealed=sealed)
        return login_id

    async def find(self, login_id: str) -> tuple[Principal, bytes | None] | None:
        """Return who is logged in by this, and the secret; None if the login is over, or never was."""
        if not login_id.startswith(PREFIX) or len(login_id) > LONGEST_ID:
            return None
        found = await self._store.use(_hash(login_id), idle=self._idle)
        if found is None:
            return None
        if found.sealed is None:
            return found.principal, None
        # In a thread: it may be the first that needs cryptography, which takes 0.1 s to load.
        secret = await asyncio.to_thread(_opened, login_id, found.sealed)
        return None if secret is None else (found.principal, secret)

    async def change(self, login_id: str, principal: Principal, secret: bytes) -> None:
        """Keep what a provider now says of the person, and has given."""
        await self._store.change(_hash(login_id), principal, _fernet(login_id).encrypt(secret))

    async def close(self, login_id: str) -> None:
        await self._store.remove(_hash(login_id))

    async def close_all(self, is_theirs: Callable[[Principal], bool]) -> int:
        return await self._store.remove_of(is_theirs)


def _hash(login_id: str) -> str:
    return hashlib.sha256(login_id.encode(errors="replace")).hexdigest()


def _opened(login_id: str, sealed: bytes) -> bytes | None:
    """Return what is sealed; None if it was not sealed with this ID."""
    from cryptography.fernet import InvalidToken

    try:
        return _fernet(login_id).decrypt(sealed)
    except InvalidToken:
        return None


def _fernet(login_id: str) -> "Fernet":
    # 8 MiB, for those who have a provider: only what one gave is sealed.
    from cryptography.fernet import Fernet
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"noah login").derive(login_id.encode())
    return Fernet(base64.urlsafe_b64encode(key))
