"""Checks who signed a token. The only file that imports joserfc: with cryptography it takes 8 MiB, so it is loaded when
the gateway starts with a provider or a portal, and not at all without them."""

from collections.abc import Sequence
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

# Signatures with a public key. "none" and those with a shared secret are not among them: who knows the secret of a
# client could make tokens of anybody.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
_REGISTRY = JWSRegistry(algorithms=list(ALGORITHMS))

Key = RSAKey | ECKey | OKPKey


def decoded(token: str, key: Key | KeySet) -> jwt.Token:
    """Return a token that was signed with *key*, or with one of a set. Raises ValueError for any other."""
    try:
        return jwt.decode(token, key, registry=_REGISTRY)
    except (JoseError, ValueError, KeyError, TypeError) as e:
        raise ValueError("the signature is not one of the key's") from e


def key_set(listed: Sequence[Any]) -> KeySet:
    """Return a provider's keys, without those of a kind that is not known, or not for signatures."""
    return KeySet([key for one in listed for key in _keys_of(one)])


def key_of_pem(pem: bytes) -> Key | None:
    for kind in (RSAKey, ECKey, OKPKey):
        try:
            return kind.import_key(pem)
        except (JoseError, ValueError, TypeError):
            continue
    return None


def _keys_of(one: Any) -> list[Any]:
    try:
        if not isinstance(one, dict) or one.get("kty") == "oct" or one.get("use", "sig") != "sig":
            return []
        return KeySet.import_key_set({"keys": [one]}).keys
    except (JoseError, ValueError, KeyError, TypeError):
        return []
