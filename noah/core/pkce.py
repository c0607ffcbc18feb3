"""Proof that who ends a login is who began it (RFC 7636)."""

import base64
import hashlib


def challenge_of(verifier: str) -> str:
    """Return what a login is begun with, by SHA-256 (section 4.2); its *verifier* ends it."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
