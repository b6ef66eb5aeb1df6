import pytest

from streamtable.gateway.credentials import (
    Credential,
    IncompleteSignature,
    InvalidSignature,
    MissingAuthenticationToken,
    read_credential,
)

SCOPE = "AKIDEXAMPLE/20260101/us-east-1/dynamodb/aws4_request"
CREDENTIAL = Credential("AKIDEXAMPLE", "20260101", "us-east-1", "dynamodb")
DATE = {b"x-amz-date": b"20260101T000000Z"}


def read(authorization, *, query=b"", headers=DATE):
    return read_credential(headers | {b"authorization": authorization.encode()}, query)


@pytest.mark.parametrize(
    "authorization",
    [
        f"AWS4-HMAC-SHA256 Credential={SCOPE}, SignedHeaders=host, Signature=abc",
        f"AWS4-HMAC-SHA256 Credential={SCOPE},SignedHeaders=host,Signature=abc",
        f"AWS4-HMAC-SHA256 SignedHeaders=host, Signature=abc, Credential={SCOPE}",
    ],
)
def test_the_credential_is_read_from_the_header(authorization):
    assert read(authorization) == CREDENTIAL
    assert read(authorization, headers={b"date": b"today"}) == CREDENTIAL
    assert read(authorization, query=b"a=b") == CREDENTIAL


def test_the_credential_is_read_from_the_query():
    query = (
        f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={SCOPE.replace('/', '%2F')}"
        "&X-Amz-Date=20260101T000000Z&X-Amz-SignedHeaders=host&X-Amz-Signature=abc"
    )
    assert read_credential({}, query.encode()) == CREDENTIAL
    with pytest.raises(InvalidSignature, match="Found both 'X-Amz-Algorithm'"):
        read("AWS4-HMAC-SHA256", query=query.encode())
    with pytest.raises(IncompleteSignature, match=r"must include 'X-Amz-Date'\. Re-examine"):
        read_credential({}, query.replace("X-Amz-Date", "x").encode())


def test_no_signature():
    with pytest.raises(MissingAuthenticationToken, match="Request must contain either"):
        read_credential(DATE, b"a=b")
    with pytest.raises(MissingAuthenticationToken, match="missing Authentication Token"):
        read("Basic YTpi")


def test_each_missing_parameter_is_named():
    with pytest.raises(IncompleteSignature) as caught:
        read("AWS4-HMAC-SHA256 Credential=", headers={})
    assert caught.value.message.startswith(
        "Authorization header requires 'Credential' parameter. "
        "Authorization header requires 'Signature' parameter. "
        "Authorization header requires 'SignedHeaders' parameter. "
        "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. "
        "(Hashed with SHA-256 and encoded with Base64) Authorization="
    )


def test_a_scope_has_five_parts():
    with pytest.raises(IncompleteSignature, match="exactly 5 slash-delimited elements"):
        read("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE, SignedHeaders=host, Signature=abc")
    with pytest.raises(IncompleteSignature, match="exactly 5 slash-delimited elements"):
        read("AWS4-HMAC-SHA256 SignedHeaders=host, Signature=abc, Credential=" + "a/" * 500)
