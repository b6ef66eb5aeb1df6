import pytest

from streamtable.streams.peers.handshake import (
    PROTOCOL,
    Hello,
    PeerRefused,
    check_proof,
    hello,
    prove,
)

SECRET = b"sixteen bytes or more"


def test_a_hello_is_read_as_it_was_said():
    said = hello("eu")
    assert Hello.read(said._asdict(), "eu") == said


def test_no_nonce_comes_twice():
    assert hello("eu").nonce != hello("eu").nonce


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"region": "us"}, "it is a node of the region us, not of eu"),
        ({"protocol": PROTOCOL + 1}, f"version {PROTOCOL + 1} of the protocol"),
        ({"protocol": "new"}, "no node of streamtable"),
    ],
)
def test_another_region_or_protocol_is_refused(change, why):
    found = hello("eu")._asdict() | change
    with pytest.raises(PeerRefused, match=why):
        Hello.read(found, "eu")


@pytest.mark.parametrize("found", [None, [], "hello", 5, {}, {"protocol": PROTOCOL}])
def test_what_is_no_hello_is_refused(found):
    with pytest.raises(PeerRefused, match="no node of streamtable"):
        Hello.read(found, "eu")


def test_a_proof_is_good_for_its_secret_role_and_nonce_only():
    nonce, other = hello("eu").nonce, hello("eu").nonce
    proof = prove(SECRET, "server", nonce)
    check_proof(SECRET, "server", nonce, proof)
    for secret, role, asked in (
        (b"another secret, as long", "server", nonce),
        (SECRET, "client", nonce),
        (SECRET, "server", other),
    ):
        with pytest.raises(PeerRefused, match="another secret"):
            check_proof(secret, role, asked, proof)


@pytest.mark.parametrize(("mine", "theirs"), [(SECRET, None), (None, SECRET)])
def test_both_sides_have_a_secret_or_none_has(mine, theirs):
    nonce = hello("eu").nonce
    with pytest.raises(PeerRefused):
        check_proof(mine, "client", nonce, prove(theirs, "client", nonce))


def test_without_secrets_there_is_nothing_to_prove():
    check_proof(None, "client", "nonce", prove(None, "client", "nonce"))


@pytest.mark.parametrize("proof", [None, 5, ["proof"], {}])
def test_what_is_no_proof_is_refused(proof):
    with pytest.raises(PeerRefused):
        check_proof(SECRET, "client", "nonce", proof)
