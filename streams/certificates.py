"""TLS from PEM files: whose certificates are taken, and which one is shown.

OpenSSL's errors name no file, and where a key is encrypted it asks whoever has the terminal.
"""

import logging
import ssl
from pathlib import Path
from typing import Final, NamedTuple

from streamtable.core.errors import StreamtableError
from streamtable.streams.reasons import why_failed

__all__ = ["Shown", "WrongCertificates", "client_tls", "server_tls"]

logger = logging.getLogger(__name__)

_OTHER_KEY: Final = "KEY_VALUES_MISMATCH"


class WrongCertificates(StreamtableError, ValueError):
    """A file is not what TLS needs."""


class Shown(NamedTuple):
    """What this side shows of itself.

    Attributes:
        certificate: the file with the certificate, and those between it and the authority's.
        key: the file with its private key; it may be the same.
        password: the key's, None if it is not encrypted.
    """

    certificate: Path
    key: Path
    password: str | None = None


class _Accepting(ssl.SSLObject):
    """Tells why a client is turned away: neither the event loop nor the client says it."""

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            logger.warning("a connection by TLS is refused: %s", why_failed(error))
            raise


def client_tls(authority: Path | None, shown: Shown | None) -> ssl.SSLContext:
    """Return how to speak TLS to a server.

    Args:
        authority: the file with the certificates of those who may have signed the server's; None
            for the system's.
        shown: what is shown to a server that asks for it.

    Raises:
        WrongCertificates: a file is not right; the message says which.
    """
    return _context(ssl.Purpose.SERVER_AUTH, authority, shown)


def server_tls(authority: Path, shown: Shown) -> ssl.SSLContext:
    """Return how to speak TLS to clients, each of which has to show a certificate.

    Raises:
        WrongCertificates: a file is not right; the message says which.
    """
    context = _context(ssl.Purpose.CLIENT_AUTH, authority, shown)
    context.sslobject_class = _Accepting
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _context(purpose: ssl.Purpose, authority: Path | None, shown: Shown | None) -> ssl.SSLContext:
    if authority is not None:
        _check_readable(authority)
    try:
        context = ssl.create_default_context(purpose, cafile=authority)
    except ssl.SSLError as error:
        raise WrongCertificates(f"{authority} has no certificate in PEM's form") from error
    if shown is not None:
        _show(context, shown)
    return context


def _show(context: ssl.SSLContext, shown: Shown) -> None:
    certificate, key, password = shown

    def ask() -> str:
        if password is None:
            raise WrongCertificates(f"{key} is encrypted, and there is no password for it")
        return password

    for path in (certificate, key):
        _check_readable(path)
    try:
        context.load_cert_chain(certificate, key, ask)
    except ssl.SSLError as error:
        if error.reason == _OTHER_KEY:
            raise WrongCertificates(
                f"{key} is not the key of the certificate in {certificate}"
            ) from error
        wrong = "" if password is None else ", or the password is another one"
        raise WrongCertificates(
            f"{certificate} and {key} are no certificate and its key in PEM's form{wrong}"
        ) from error


def _check_readable(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise WrongCertificates(f"{path}: {error.strerror}") from error
