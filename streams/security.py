"""How to connect to Kafka: the brokers' addresses, and what they ask of a client.

An address is a `str` wherever it goes; one that came with a file of settings is a `KafkaAddress`,
which still has them when a client is opened.
"""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from streamtable.core.errors import StreamtableError
from streamtable.streams.certificates import Shown, WrongCertificates, client_tls
from streamtable.streams.fetching import fetch_steadily
from streamtable.streams.patience import limit_requests

__all__ = [
    "BROKERS",
    "CONFIG_VARIABLE",
    "KafkaAddress",
    "KafkaSecurity",
    "WrongKafkaConfig",
    "client_options",
    "known_address",
]

CONFIG_VARIABLE: Final = "STREAMTABLE_KAFKA_CONFIG"
"""Names the file of settings for workers and for commands that read the log."""

BROKERS: Final = "bootstrap_servers"
"""What a client of aiokafka calls the brokers."""

_PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_NAMES: Final = {
    "security.protocol": "protocol",
    "ssl.ca.location": "ca",
    "ssl.certificate.location": "certificate",
    "ssl.key.location": "key",
    "ssl.key.password": "key_password",
    "ssl.endpoint.identification.algorithm": "names",
    "sasl.mechanism": "mechanism",
    "sasl.mechanisms": "mechanism",
    "sasl.username": "username",
    "sasl.password": "password",
}
_TLS: Final = frozenset({"ca", "certificate", "key", "key_password", "names"})
_SASL: Final = frozenset({"mechanism", "username", "password"})
# What else such a file may have, for other tools.
_PASSED_OVER: Final = frozenset({"bootstrap.servers", "metadata.broker.list", "client.id"})


class WrongKafkaConfig(StreamtableError, ValueError):
    """The file of settings for Kafka can't be read, or says what does not go together."""


@dataclass(frozen=True, slots=True)
class KafkaSecurity:
    """What brokers ask of a client.

    Attributes:
        protocol: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.
        context: for TLS; None without.
        mechanism: of SASL; None without.
        username: for SASL.
        password: for SASL.
    """

    protocol: str
    context: ssl.SSLContext | None = None
    mechanism: str | None = None
    username: str | None = None
    password: str | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file in the form that librdkafka's tools take, kcat's `-F` for example.

        A line is `name=value`, or empty, or a remark that begins with `#`. The names are
        `security.protocol`, `ssl.ca.location`, `ssl.certificate.location`, `ssl.key.location`,
        `ssl.key.password`, `ssl.endpoint.identification.algorithm`, `sasl.mechanism`,
        `sasl.username` and `sasl.password`; files are PEM, and relative to this one.

        Raises:
            WrongKafkaConfig: it can't be read, or is not right.
        """
        given = _read_lines(path)
        protocol = given.get("protocol", "PLAINTEXT").upper()
        if protocol not in _PROTOCOLS:
            raise WrongKafkaConfig(
                f"{path}: security.protocol is one of {', '.join(_PROTOCOLS)}, not {protocol}"
            )
        _check_used(path, given, protocol)
        context = _context(path, given) if protocol.endswith("SSL") else None
        if not protocol.startswith("SASL"):
            return cls(protocol, context)
        mechanism = given.get("mechanism", "").upper()
        if mechanism not in _MECHANISMS:
            raise WrongKafkaConfig(
                f"{path}: sasl.mechanism is one of {', '.join(_MECHANISMS)}, not "
                f"{mechanism or 'given'}"
            )
        missing = [name for name in ("username", "password") if not given.get(name)]
        if missing:
            raise WrongKafkaConfig(f"{path}: {protocol} needs sasl.{missing[0]}")
        return cls(protocol, context, mechanism, given["username"], given["password"])


class KafkaAddress(str):
    """Brokers, `host:port,...`, with what they ask of a client."""

    __slots__ = ("security",)

    security: KafkaSecurity

    def __new__(cls, brokers: str, security: KafkaSecurity) -> Self:
        """Return the address."""
        made = super().__new__(cls, brokers)
        made.security = security
        return made


def known_address(brokers: str, config: Path | None = None) -> str:
    """Return the address of brokers, with the settings that there are for them.

    Args:
        brokers: `host:port,...`.
        config: the file of settings; None for the one that STREAMTABLE_KAFKA_CONFIG names.

    Raises:
        WrongKafkaConfig: the file is not right.
    """
    if config is None:
        named = os.environ.get(CONFIG_VARIABLE)
        if not named:
            return brokers
        config = Path(named)
    return KafkaAddress(brokers, KafkaSecurity.read(config))


def client_options(address: str) -> dict[str, Any]:
    """Return what a client of aiokafka is told to connect to an address."""
    limit_requests()
    fetch_steadily()
    options: dict[str, Any] = {BROKERS: str(address)}
    if isinstance(address, KafkaAddress):
        security = address.security
        options |= {"security_protocol": security.protocol, "ssl_context": security.context}
        if security.mechanism is not None:
            options |= {
                "sasl_mechanism": security.mechanism,
                "sasl_plain_username": security.username,
                "sasl_plain_password": security.password,
            }
    return options


def _read_lines(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WrongKafkaConfig(f"{path} can't be read: {error}") from error
    given = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or (name not in _NAMES and name not in _PASSED_OVER):
            # A setting that has no effect may be the one that protects.
            raise WrongKafkaConfig(
                f"{path}, line {number}: {name} is none of {', '.join(sorted(_NAMES))}"
            )
        if name in _NAMES:
            given[_NAMES[name]] = value
    return given


def _check_used(path: Path, given: Mapping[str, str], protocol: str) -> None:
    """Refuse what has no effect: it may be what was to protect."""
    idle: set[str] = set()
    if not protocol.endswith("SSL"):
        idle |= _TLS
    if not protocol.startswith("SASL"):
        idle |= _SASL
    for name, meant in _NAMES.items():
        if meant in idle & given.keys():
            raise WrongKafkaConfig(
                f"{path}: {name} has no effect where security.protocol is {protocol}"
            )


def _context(path: Path, given: Mapping[str, str]) -> ssl.SSLContext:
    def place(name: str) -> Path | None:
        return path.parent / given[name] if given.get(name) else None

    certificate, key = place("certificate"), place("key")
    if certificate is None and key is not None:
        raise WrongKafkaConfig(f"{path}: ssl.key.location needs ssl.certificate.location")
    shown = None
    if certificate is not None:
        shown = Shown(certificate, key or certificate, given.get("key_password"))
    try:
        context = client_tls(place("ca"), shown)
    except WrongCertificates as error:
        raise WrongKafkaConfig(f"{path}: the certificates can't be used: {error}") from error
    context.check_hostname = given.get("names", "https") != "none"
    return context
