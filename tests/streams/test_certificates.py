import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from streamtable.streams.certificates import Shown, WrongCertificates, client_tls, server_tls


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a certificate with its key, plain and encrypted, and another one's."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority")
    for name in ("own", "other"):
        made = authority.issue_cert("127.0.0.1")
        made.cert_chain_pems[0].write_to_path(folder / f"{name}.cert")
        made.private_key_pem.write_to_path(folder / f"{name}.key")
    key = load_pem_private_key((folder / "own.key").read_bytes(), None)
    encrypted = key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"a password")
    )
    (folder / "encrypted.key").write_bytes(encrypted)
    (folder / "text").write_text("no certificate\n")
    return folder


def shown(folder: Path, key: str, password: str | None = None) -> Shown:
    return Shown(folder / "own.cert", folder / key, password)


def test_who_listens_asks_for_a_certificate(folder: Path) -> None:
    server = server_tls(folder / "authority", shown(folder, "own.key"))
    assert server.verify_mode is ssl.CERT_REQUIRED
    client = client_tls(folder / "authority", None)
    assert client.verify_mode is ssl.CERT_REQUIRED
    assert client.check_hostname
    assert [len(each.get_ca_certs()) for each in (server, client)] == [1, 1]


def test_a_key_that_is_encrypted_has_a_password(folder: Path) -> None:
    client_tls(None, shown(folder, "encrypted.key", "a password"))
    # Nobody is asked for it on the terminal.
    with pytest.raises(WrongCertificates, match=r"encrypted.key is encrypted, and there is no"):
        client_tls(None, shown(folder, "encrypted.key"))
    with pytest.raises(WrongCertificates, match="or the password is another one"):
        client_tls(None, shown(folder, "encrypted.key", "guessed"))


@pytest.mark.parametrize(
    ("certificate", "key", "told"),
    [
        ("none.cert", "own.key", "none.cert: No such file or directory"),
        ("own.cert", "none.key", "none.key: No such file or directory"),
        ("own.cert", "other.key", "other.key is not the key of the certificate in "),
        ("text", "own.key", "own.key are no certificate and its key in PEM's form"),
        ("own.cert", "text", "text are no certificate and its key in PEM's form"),
    ],
)
def test_what_is_wrong_is_named(folder: Path, certificate: str, key: str, told: str) -> None:
    with pytest.raises(WrongCertificates, match=told):
        client_tls(None, Shown(folder / certificate, folder / key))


@pytest.mark.parametrize(
    ("authority", "told"),
    [("none", "none: No such file or directory"), ("text", "text has no certificate in PEM's")],
)
def test_an_authority_that_is_none_is_named(folder: Path, authority: str, told: str) -> None:
    for how in (client_tls, server_tls):
        with pytest.raises(WrongCertificates, match=told):
            how(folder / authority, shown(folder, "own.key"))
