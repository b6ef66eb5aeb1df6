"""What a node is told at its start."""

import re
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

__all__ = ["NodeSettings"]

# An IPv6 address is in brackets: without, nobody could tell where the port begins.
_ADDRESS: Final = re.compile(r"(?:[^\s:\[\]]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})")
_LAST_PORT: Final = 65535


def _check_address(text: str) -> str:
    found = _ADDRESS.fullmatch(text)
    if found is None or not 0 < int(found[1]) <= _LAST_PORT:
        raise PydanticCustomError(
            "address", "should be host:port, an IPv6 address in brackets, the port up to 65535"
        )
    return text


class NodeSettings(BaseModel):
    """Settings of one node; each one is an option of `streamtable serve`.

    Attributes:
        host: address to listen on. The endpoint has no access control yet.
        port: the endpoint's port; 0 takes a free one.
        data: folder of everything the node keeps; one node a folder.
        region: this deployment's name; the first part of its topics' names.
        account: account id in the resource names that DynamoDB's answers have.
        kafka: brokers, `host:port,...`; None starts the embedded broker.
        kafka_config: file with what these brokers ask of a client: TLS, a user and a password.
        advertise: address at which other nodes on the same brokers reach this one; None for a port
            on loopback.
        peer_secret_file: file with what all nodes of the region know, and nobody else.
        peer_tls_cert: this node's certificate for other nodes; with `peer_tls_key` and
            `peer_tls_ca`.
        peer_tls_key: its private key.
        peer_tls_ca: the authority that has signed all nodes' certificates.
        replicas: on how many further nodes each shard is materialized.
        workers: in how many processes the node runs, each with shards of its own.
        broker_port: the embedded broker's port, on loopback; 0 takes a free one.
        shards: shards of the change log where it is made now; None for the default.
        table_delay_ms: how long tables stay CREATING, UPDATING and DELETING, milliseconds.
        checkpoints: where the shards' checkpoints and backups are kept: a folder,
            `s3://bucket/prefix`, `gs://...`, `az://...`, or `none`; None for `checkpoints` in the
            data folder.
        checkpoint_interval_s: how often a shard that has changed gets one, seconds.
        traces: an OpenTelemetry collector, `http://host:4318`, that traces are sent to; None for
            none.
        trace_ratio: the share of requests that are traced, of those that do not say themselves.
        ttl_interval_s: how often expired items are looked for, seconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    data: Path = Path("data")
    region: str = Field(default="local", pattern=r"^[a-z][a-z0-9-]{0,62}$")
    account: str = Field(default="000000000000", pattern=r"^\d{12}$")
    kafka: str | None = None
    kafka_config: Path | None = None
    advertise: Annotated[str, AfterValidator(_check_address)] | None = None
    peer_secret_file: Path | None = None
    peer_tls_cert: Path | None = None
    peer_tls_key: Path | None = None
    peer_tls_ca: Path | None = None
    replicas: int = Field(default=1, ge=0, le=10)
    workers: int = Field(default=1, ge=1, le=256)
    broker_port: int = Field(default=19092, ge=0, le=65535)
    shards: int | None = Field(default=None, ge=1, le=1000)
    table_delay_ms: int = Field(default=0, ge=0)
    ttl_interval_s: float = Field(default=1.0, gt=0)
    checkpoints: str | None = None
    checkpoint_interval_s: float = Field(default=900.0, gt=0)
    traces: str | None = Field(default=None, pattern=r"^https?://")
    trace_ratio: float = Field(default=0.01, ge=0, le=1)
