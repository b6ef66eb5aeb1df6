"""How two nodes make sure of each other: same region, same protocol, same secret.

Each side proves that it knows the secret by an HMAC over the other's nonce, which it has never
seen before. That keeps strangers out; it hides nothing from who can read the network, which is
what TLS is for.
"""

import hashlib
import hmac
import secrets
from typing import Any, Final, NamedTuple

from streamtable.core.errors import StreamtableError

__all__ = ["PROTOCOL", "Hello", "PeerRefused", "check_proof", "hello", "prove"]

PROTOCOL: Final = 1
"""Grows when a node could not understand what an older one says."""

_NONCE_BYTES: Final = 16


class PeerRefused(StreamtableError, ConnectionError):
    """The other side is no node of this region."""


class Hello(NamedTuple):
    """What each side says first.

    Attributes:
        protocol: the version of the protocol that it speaks.
        region: its region.
        nonce: what the other side's proof is about.
    """

    protocol: int
    region: str
    nonce: str

    @classmethod
    def read(cls, found: Any, region: str) -> "Hello":
        """Read the other side's first message.

        Raises:
            PeerRefused: it is none of a node of this region.
        """
        try:
            said = cls(int(found["protocol"]), str(found["region"]), str(found["nonce"]))
        except (KeyError, TypeError, ValueError):
            raise PeerRefused("what answers there is no node of streamtable") from None
        if said.protocol != PROTOCOL:
            raise PeerRefused(
                f"it speaks version {said.protocol} of the protocol between nodes, this node "
                f"speaks {PROTOCOL}: run the same version of streamtable on both"
            )
        if said.region != region:
            raise PeerRefused(f"it is a node of the region {said.region}, not of {region}")
        return said


def hello(region: str) -> Hello:
    """Return what this side says first."""
    return Hello(PROTOCOL, region, secrets.token_hex(_NONCE_BYTES))


def prove(secret: bytes | None, role: str, nonce: str) -> str:
    """Return the proof for the other side's nonce.

    Args:
        secret: what both know; None where there is none.
        role: `client` or `server`, so that no proof is good for the other direction.
        nonce: the other side's.
    """
    if secret is None:
        return ""
    return hmac.new(secret, f"{role} {nonce}".encode(), hashlib.sha256).hexdigest()


def check_proof(secret: bytes | None, role: str, nonce: str, proof: Any) -> None:
    """Check what the other side made of this side's nonce.

    Raises:
        PeerRefused: it does not know the secret.
    """
    if not isinstance(proof, str) or not hmac.compare_digest(prove(secret, role, nonce), proof):
        raise PeerRefused("it has another secret: give all nodes the same --peer-secret-file")
