"""Another gateway, as its row says."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAddress:
    id: str
    host: str
    port: int
    certificate: bytes  # DER
