"""Tokens of the gateway's own, in a file: for a small team, for compose, for the first hour.

The file has hashes only. A token has 256 random bits, so its hash needs no salt and no work factor: nobody finds it by
trying. A running gateway reads the file again when it has changed, so a token that is revoked is refused at once.
"""

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from noah.core.session.principal import OPERATORS, Principal, PrincipalKind, principal_from_outside
from noah.errors import BadInput, Forbidden, NotFound, Unavailable
from noah.file_state import FileState, state_of

PREFIX = "noah_"  # by which a token is found in logs and repositories where it should not be
VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    id: str  # not secret: to list and revoke it by
    name: str  # whose it is; several tokens of one name are one principal
    groups: tuple[str, ...]
    hash: str  # SHA-256 of the token, in hexadecimal
    created_at: datetime
    expires_at: datetime | None

    def has_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and now >= self.expires_at


class TokenFile:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._read_at: FileState | None = None  # which file, and its state when it was read
        self._by_hash: dict[str, Token] = {}

    def find(self, token: str, now: datetime) -> Principal | None:
        """Return whose token it is; None if it is unknown, revoked or expired. Raises Unavailable."""
        found = self._current().get(_hash(token))
        if found is None or found.has_expired(now):
            return None
        return Principal(
            kind=PrincipalKind.TOKEN,
            issuer="",
            subject=found.name,
            name=found.name,
            groups=frozenset(found.groups),
            proof=f"token {found.id}",
        )

    def all(self) -> list[Token]:
        return list(self._current().values())

    def create(self, name: str, *, groups: Sequence[str], now: datetime, expires_at: datetime | None) -> str:
        """Return a new token, which is nowhere else from now on. Raises BadInput for a name that cannot be one."""
        try:
            checked = [group for group in groups if group != OPERATORS]
            principal_from_outside(PrincipalKind.TOKEN, issuer="tokens", subject=name, groups=checked, proof="")
        except Forbidden:
            raise BadInput(
                "A token's name and groups have printable characters, and do not begin with system: or noah: "
                f"(but for the group {OPERATORS})."
            ) from None
        secret = PREFIX + secrets.token_urlsafe(32)
        token = Token(
            id=f"t-{secrets.token_hex(4)}",
            name=name,
            groups=tuple(sorted(set(groups))),
            hash=_hash(secret),
            created_at=now,
            expires_at=expires_at,
        )
        with self._changing() as tokens:
            tokens.append(token)
        return secret

    def revoke(self, which: str) -> list[Token]:
        """Remove the token with this ID, or all of this name; return them. Raises NotFound."""
        with self._changing() as tokens:
            gone = [token for token in tokens if which in (token.id, token.name)]
            tokens[:] = [token for token in tokens if token not in gone]
        if not gone:
            raise NotFound(f"There is no token {which[:80]!r}: `noah token list` shows them.")
        return gone

    def _current(self) -> dict[str, Token]:
        try:
            state = state_of(self.path)
        except FileNotFoundError:
            self._read_at, self._by_hash = None, {}
            return {}
        except OSError as e:
            raise self._unreadable(e) from None
        # Each change is another file (see _changing): its number differs even when the clock does not.
        if state != self._read_at:
            self._by_hash = {token.hash: token for token in self._read()}
            self._read_at = state
        return self._by_hash

    def _read(self) -> list[Token]:
        try:
            if self.path.stat().st_mode & 0o022:
                raise Unavailable(f"Others than its owner may write {self.path}: run chmod 600 on it.")
            tree = json.loads(self.path.read_text(encoding="utf-8"))
            return [_token_of(one) for one in tree["tokens"]]
        except FileNotFoundError:
            return []
        except OSError as e:
            raise self._unreadable(e) from None
        except (ValueError, LookupError, TypeError):
            raise Unavailable(f"The file of tokens, {self.path}, is not one that `noah token` wrote.") from None

    def _unreadable(self, error: OSError) -> Unavailable:
        return Unavailable(f"The file of tokens, {self.path}, cannot be used: {error.strerror}.")

    @contextmanager
    def _changing(self) -> Iterator[list[Token]]:
        """Hand out what is in the file, and put what has become of it in its place, in one step."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as e:
            raise self._unreadable(e) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            tokens = self._read()
            yield tokens
            self._replace(tokens)
        finally:
            os.close(lock)

    def _replace(self, tokens: Iterable[Token]) -> None:
        new = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        text = json.dumps({"version": VERSION, "tokens": [_json_of(token) for token in tokens]}, indent=1)
        try:
            file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(file, "w", encoding="utf-8") as opened:
                opened.write(text + "\n")
                opened.flush()
                os.fsync(opened.fileno())
            new.replace(self.path)
        except OSError as e:
            new.unlink(missing_ok=True)
            raise self._unreadable(e) from None


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def _json_of(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "groups": list(token.groups),
        "sha256": token.hash,
        "created_at": token.created_at.isoformat(),
        "expires_at": token.expires_at and token.expires_at.isoformat(),
    }


def _token_of(row: dict[str, Any]) -> Token:
    return Token(
        id=row["id"],
        name=row["name"],
        groups=tuple(row["groups"]),
        hash=row["sha256"],
        created_at=datetime.fromisoformat(row["created_at"]),
        expires_at=row["expires_at"] and datetime.fromisoformat(row["expires_at"]),
    )
