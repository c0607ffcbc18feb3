"""Browsers that are logged in: a random ID in a cookie, and a row with its hash in the database.

A row lasts as long as the settings say, since its last use and at all, and is gone at once when it is removed. What a
provider gave for it is sealed with a key made from the ID, which only the browser has: a stolen database opens nothing.
"""

import base64
import hashlib
import secrets
from datetime import timedelta

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from noah.core.session.principal import Principal
from noah.store.browser_sessions import BrowserSessionStore

ID_BYTES = 32
LONGEST_COOKIE = 100  # characters; ours have 43


class BrowserSessions:
    def __init__(self, store: BrowserSessionStore, *, idle: timedelta, longest: timedelta) -> None:
        self._store = store
        self._idle = idle
        self.longest = longest

    async def open(self, principal: Principal, *, secret: bytes | None = None) -> str:
        """Log a browser in; return what its cookie has. *secret* is kept sealed."""
        session_id = secrets.token_urlsafe(ID_BYTES)
        sealed = None if secret is None else _fernet(session_id).encrypt(secret)
        await self._store.add(_hash(session_id), principal, lasts=self.longest, sealed=sealed)
        return session_id

    async def find(self, session_id: str) -> tuple[Principal, bytes | None] | None:
        """Return who is logged in by this cookie, and the secret; None if the login is over, or never was."""
        if not 0 < len(session_id) <= LONGEST_COOKIE:
            return None
        found = await self._store.use(_hash(session_id), idle=self._idle)
        if found is None:
            return None
        try:
            return found.principal, found.sealed and _fernet(session_id).decrypt(found.sealed)
        except InvalidToken:
            return None

    async def close(self, session_id: str) -> None:
        await self._store.remove(_hash(session_id))


def _hash(session_id: str) -> str:
    return hashlib.sha256(session_id.encode(errors="replace")).hexdigest()


def _fernet(session_id: str) -> Fernet:
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"noah browser session").derive(session_id.encode())
    return Fernet(base64.urlsafe_b64encode(key))
