"""What a file of settings for Kafka may say, and what clients are told of it."""

import ssl
from pathlib import Path

import pytest

from streamtable.streams.group import Group
from streamtable.streams.security import (
    KafkaAddress,
    KafkaSecurity,
    WrongKafkaConfig,
    client_options,
    known_address,
)
from tests.support.apache_kafka import Secured

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Secured:
    return Secured(tmp_path_factory.mktemp("secured"))


def read(folder: Path, text: str) -> KafkaSecurity:
    path = folder / "client.conf"
    path.write_text(text)
    return KafkaSecurity.read(path)


def refused(folder: Path, text: str) -> str:
    with pytest.raises(WrongKafkaConfig) as caught:
        read(folder, text)
    return str(caught.value)


def test_brokers_that_ask_nothing():
    assert client_options("a:1,b:2") == {"bootstrap_servers": "a:1,b:2"}
    assert known_address("a:1") == "a:1"


def test_tls_with_a_user_and_a_password(secured):
    address = known_address("a:1,b:2", secured.config)
    assert address == "a:1,b:2"
    options = client_options(address)
    context = options.pop("ssl_context")
    assert options == {
        "bootstrap_servers": "a:1,b:2",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "node",
        "sasl_plain_password": "a secret",
    }
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert len(context.get_ca_certs()) == 1


def test_tls_alone_and_names_that_are_not_compared(secured, tmp_path):
    text = (
        f"security.protocol = ssl\nssl.ca.location={secured.folder}/authority.pem\n"
        "bootstrap.servers=elsewhere:1\nssl.endpoint.identification.algorithm=none\n"
    )
    found = read(tmp_path, text)
    assert (found.protocol, found.mechanism) == ("SSL", None)
    assert found.context is not None
    assert not found.context.check_hostname
    assert found.context.verify_mode is ssl.CERT_REQUIRED


def test_the_variable_names_the_file(secured, monkeypatch):
    monkeypatch.setenv("STREAMTABLE_KAFKA_CONFIG", str(secured.config))
    found = known_address("a:1")
    assert isinstance(found, KafkaAddress)
    assert found.security.username == "node"


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL", "SSL"])
async def test_faust_is_told_too(secured, tmp_path, protocol):
    path = secured.folder / f"{protocol}.conf"
    text = secured.config.read_text().replace("=SASL_SSL", f"={protocol}")
    kept = {"security", *protocol.lower().split("_")}
    lines = [line for line in text.splitlines() if line.partition(".")[0] in kept]
    path.write_text("\n".join(lines))
    group = Group("g", known_address("a:1", path))
    assert group.conf.broker_credentials.protocol.value == protocol  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("security.protocol=TLS", "security.protocol is one of PLAINTEXT, SSL"),
        ("security.protocol=SASL_PLAINTEXT", "sasl.mechanism is one of PLAIN, SCRAM"),
        ("security.protocol=SASL_PLAINTEXT\nsasl.mechanism=GSSAPI", "not GSSAPI"),
        (
            "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.username=a",
            "SASL_PLAINTEXT needs sasl.password",
        ),
        ("security.protocol=SSL\nssl.ca.location=none.pem", "none.pem: No such file"),
        ("security.protocol=SSL\nssl.key.location=a", "ssl.key.location needs ssl.certificate"),
        ("ssl.ca.location=a", "ssl.ca.location has no effect where security.protocol is PLAINTEXT"),
        ("security.protocol=SSL\nsasl.username=a", "sasl.username has no effect"),
        ("security.protocol=SASL_PLAINTEXT\nssl.key.password=a", "ssl.key.password has no effect"),
        ("# remark\n\nssl.truststore.location=x", "line 3: ssl.truststore.location is none of"),
        ("security.protocol", "line 1: security.protocol is none of"),
    ],
)
def test_files_that_are_refused(tmp_path, text, told):
    assert told in refused(tmp_path, text)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(WrongKafkaConfig, match="can't be read"):
        KafkaSecurity.read(tmp_path / "nothing")


def test_no_client_is_opened_in_another_way():
    named = [
        path
        for folder in ("core", "streams", "consumers", "streamtable")
        for path in (ROOT / folder).rglob("*.py")
        if "bootstrap_servers" in path.read_text() and "broker" not in path.parts
    ]
    assert named == [ROOT / "streams" / "security.py"]
