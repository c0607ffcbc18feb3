"""Where the command line keeps the tokens of its logins: in the system's keyring, else in a file of the user's alone.

A token is kept for one gateway's URL and goes to no other. The file says for which gateways the keyring has one: it is
slow to import, and asked for those only.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from noah.errors import BadSettings

SERVICE = "noah"  # the keyring's name for us
IN_KEYRING = {"keyring": True}


class Credentials:
    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        folder = environ.get("XDG_CONFIG_HOME") or environ.get("APPDATA")
        folder = folder or os.path.join(environ.get("HOME", "~"), ".config")
        # os.path leaves the tilde of a user without a home; pathlib raises an error of its own.
        self.file = Path(os.path.expanduser(folder)) / "noah" / "credentials.json"

    def token(self, url: str) -> str | None:
        """Return the token for the gateway at *url*, if there is one. Raises BadSettings."""
        kept = self._read().get(url)
        if kept == IN_KEYRING:
            keyring = _keyring()
            return keyring.get_password(SERVICE, url) if keyring else None
        return kept.get("token") if isinstance(kept, dict) else None

    def keep(self, url: str, token: str) -> str:
        """Keep a token; return where, in words."""
        kept: dict[str, Any] = {"token": token}
        where = str(self.file)
        if (keyring := _keyring()) is not None:
            # One that is locked, with nobody to unlock it, fails in a way of its own.
            with suppress(Exception):
                keyring.set_password(SERVICE, url, token)
                kept, where = IN_KEYRING, "the system's keyring"
        self._write({**self._read(), url: kept})
        return where

    def forget(self, url: str) -> None:
        kept = self._read()
        if kept.pop(url, None) == IN_KEYRING and (keyring := _keyring()) is not None:
            with suppress(Exception):
                keyring.delete_password(SERVICE, url)
        self._write(kept)

    def _read(self) -> dict[str, Any]:
        try:
            with open(self.file, encoding="utf-8") as opened:
                if _others_may_read(opened.fileno()):
                    raise BadSettings(f"Others may read {self.file}, which has your tokens: run chmod 600 on it.")
                kept = json.load(opened)
        except FileNotFoundError:
            return {}
        except OSError as e:
            raise BadSettings(f"Your tokens in {self.file} cannot be read: {e.strerror}.") from None
        except ValueError:
            kept = None
        if not isinstance(kept, dict):
            raise BadSettings(f"{self.file} is not a file of tokens: remove it, and log in again.")
        return kept

    def _write(self, kept: Mapping[str, Any]) -> None:
        import tempfile

        try:
            self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            new, name = tempfile.mkstemp(dir=self.file.parent)  # 0600 from its beginning
            with os.fdopen(new, "w", encoding="utf-8") as opened:
                json.dump(kept, opened, indent=1)
            os.replace(name, self.file)
        except OSError as e:
            raise BadSettings(f"Your tokens cannot be kept in {self.file}: {e.strerror}.") from None


def _others_may_read(file: int) -> bool:
    """Return what the file's mode says. Windows has none: there a file in one's profile is one's own."""
    if not hasattr(os, "getuid"):
        return False
    status = os.fstat(file)
    return bool(status.st_mode & 0o077) or status.st_uid != os.getuid()


def _keyring() -> Any:
    """Return the module if it is installed and has a place to keep something, else None."""
    try:
        import keyring
        from keyring.backends import fail, null
    except ImportError:
        return None
    backend = keyring.get_keyring()
    return None if isinstance(backend, fail.Keyring | null.Keyring) else keyring
