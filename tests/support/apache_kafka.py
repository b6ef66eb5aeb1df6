"""A real Apache Kafka for the tests: one broker or three, from the jars that Maven Central has.

`make test` fetches the jars into .cache/kafka/libs; so does this module where Maven is there. A
broker is a process of its own, with little memory, and stopped by its own process.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tests.support.ports import free_ports
from tests.support.slow_disks import SlowDisk

__all__ = ["ApacheKafka", "KafkaCluster", "Secured", "missing", "running", "running_cluster"]

_ROOT = Path(__file__).parents[2]
_JARS = _ROOT / ".cache" / "kafka" / "libs"
_POM = Path(__file__).parent / "kafka" / "pom.xml"
_START_S = 60
_STOP_S = 20

_PROPERTIES = """
process.roles=broker,controller
node.id={number}
listeners={listeners},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={advertised}
controller.listener.names=CONTROLLER
controller.quorum.voters={voters}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT,{protocol}:{protocol}
inter.broker.listener.name={protocol}
log.dirs={logs}
auto.create.topics.enable=false
min.insync.replicas={in_sync}
offsets.topic.replication.factor={copies}
offsets.topic.num.partitions=2
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=2
share.coordinator.state.topic.replication.factor={copies}
share.coordinator.state.topic.min.isr={in_sync}
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=100
message.max.bytes=67108864
broker.session.timeout.ms=5000
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=4194304
log.index.size.max.bytes=1048576
"""

_SECURED = """
ssl.keystore.type=PEM
ssl.keystore.location={folder}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/authority.pem
ssl.client.auth=required
sasl.enabled.mechanisms=SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=\
  org.apache.kafka.common.security.scram.ScramLoginModule required \
  username="{user}" password="{password}";
"""


def missing() -> str | None:
    """Say why Apache Kafka can't be started here; None if it can."""
    if shutil.which("java") is None:
        return "Apache Kafka needs Java, and there is no 'java' on the path"
    if not _JARS.is_dir() and shutil.which("mvn") is None:
        return f"Apache Kafka's jars are not in {_JARS}, and there is no 'mvn' to fetch them"
    return None


class Secured:
    """Asks clients for a certificate, and for a user and a password (SASL_SSL with SCRAM).

    Args:
        folder: where the certificates are written: `authority.pem`, `broker.pem`, `client.pem`.

    Attributes:
        config: a file with what a client needs.
    """

    user = "node"
    password = "a secret"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "authority.pem")
        for name in ("broker", "client"):
            made = authority.issue_cert("127.0.0.1", common_name=name)
            chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
            (folder / f"{name}.pem").write_bytes(_as_pkcs8(made.private_key_pem.bytes()) + chain)
        self.config = self.write_config("client.conf")

    def write_config(self, name: str, **changes: str) -> Path:
        """Write a file of settings, with other values than the right ones where told."""
        given = {"user": self.user, "password": self.password, "ca": "authority.pem", **changes}
        path = self.folder / name
        path.write_text(
            "# for a client\n"
            "security.protocol=SASL_SSL\n"
            f"ssl.ca.location={given['ca']}\n"
            "ssl.certificate.location=client.pem\n"
            "ssl.key.location=client.pem\n"
            "sasl.mechanism=SCRAM-SHA-512\n"
            f"sasl.username={given['user']}\n"
            f"sasl.password={given['password']}\n"
        )
        return path


@dataclass(frozen=True)
class _Seat:
    """A broker's place in its cluster.

    Attributes:
        number: its id; the brokers have 1, 2, ...
        controllers: the controllers' ports, of all brokers.
        cluster_id: the cluster's, 22 characters.
        proxy: port at which clients that come by the proxied listener are told to find it.
    """

    number: int
    controllers: Sequence[int]
    cluster_id: str
    proxy: int | None = None

    @property
    def voters(self) -> str:
        places = enumerate(self.controllers, 1)
        return ",".join(f"{number}@127.0.0.1:{port}" for number, port in places)


def _new_cluster_id() -> str:
    return urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")


class ApacheKafka:
    """One broker in a process of its own, on a folder of its own.

    Args:
        folder: for everything that it keeps.
        secured: what it asks of clients; None for nothing.
        seat: its place among others; None for a broker that is alone.

    Attributes:
        address: `host:port` for bootstrap servers.
        proxied: the address behind the proxy, where its seat says that there is one.
        logs: the folder of its logs.
        environment: what its next start has in its environment beside this process's.
    """

    def __init__(
        self, folder: Path, secured: Secured | None = None, seat: _Seat | None = None
    ) -> None:
        self._folder = folder
        self.logs = folder / "logs"
        self.environment: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        port, proxied, alone = free_ports(3)
        seat = seat or _Seat(1, [alone], _new_cluster_id())
        self.address = f"127.0.0.1:{port}"
        self.proxied = f"127.0.0.1:{proxied}"
        folder.mkdir(parents=True, exist_ok=True)
        self._properties = folder / "server.properties"
        protocol = "PLAINTEXT" if secured is None else "SASL_SSL"
        listeners = advertised = f"{protocol}://{self.address}"
        if seat.proxy is not None:
            listeners += f",PROXIED://{self.proxied}"
            advertised += f",PROXIED://127.0.0.1:{seat.proxy}"
        copies = len(seat.controllers)
        properties = _PROPERTIES.format(
            number=seat.number,
            listeners=listeners,
            advertised=advertised,
            controller=seat.controllers[seat.number - 1],
            voters=seat.voters,
            copies=copies,
            in_sync=max(1, copies - 1),
            logs=self.logs,
            protocol=protocol,
        )
        users = []
        if secured is not None:
            properties += _SECURED.format(
                folder=secured.folder, user=secured.user, password=secured.password
            )
            known = f"name={secured.user},password={secured.password}"
            users = ["--add-scram", f"SCRAM-SHA-512=[{known}]"]
        self._properties.write_text(properties)
        self._java(
            "kafka.tools.StorageTool",
            "format",
            "--ignore-formatted",
            "-t",
            seat.cluster_id,
            "-c",
            str(self._properties),
            *users,
        ).wait(_START_S)

    def start(self) -> None:
        """Start the broker and wait until it accepts connections.

        Raises:
            RuntimeError: it ended, or did not listen in a minute; with the end of what it said.
        """
        self.launch()
        self.wait_started()

    def launch(self) -> None:
        """Start the broker, and wait for nothing; brokers of a cluster wait for each other."""
        self._process = self._java("kafka.Kafka", str(self._properties))

    def wait_started(self) -> None:
        """Wait until it accepts connections; see `start`."""
        assert self._process is not None
        host, _, port = self.address.partition(":")
        limit = time.monotonic() + _START_S
        while time.monotonic() < limit and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
                return
            time.sleep(0.1)  # a process can't be awaited to listen
        self.stop()
        said = (self._folder / "output").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"Apache Kafka did not start: {said}")

    def kill(self) -> None:
        """End the broker at once, as a power cut does; `start` brings it back."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """Have it do nothing for a while, and refuse nothing either."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Stop the broker."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _java(self, *arguments: str) -> subprocess.Popen[bytes]:
        memory = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        with (self._folder / "output").open("ab") as output:
            return subprocess.Popen(
                ["java", *memory, "-cp", f"{_JARS}/*", *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **self.environment, "LC_ALL": "C"},
            )


class KafkaCluster:
    """Three brokers that are one Kafka: three copies of everything, two of them in sync.

    Args:
        folder: for everything that they keep.
        proxies: ports of proxies before the brokers, one for each; clients that come by a proxy
            are told of the proxies only.

    Attributes:
        brokers: the brokers.
        address: for bootstrap servers.
        disk: what the last broker's logs are on.
    """

    def __init__(self, folder: Path, proxies: Sequence[int] = ()) -> None:
        controllers, cluster_id = free_ports(3), _new_cluster_id()
        self.brokers = [
            ApacheKafka(
                folder / str(number),
                seat=_Seat(number, controllers, cluster_id, proxy),
            )
            for number, proxy in enumerate(proxies or [None] * 3, 1)
        ]
        self.address = ",".join(broker.address for broker in self.brokers)
        self.disk = SlowDisk(folder / "disk", self.brokers[-1].logs, smallest=0)
        self.brokers[-1].environment = self.disk.environment

    def start(self) -> None:
        """Start the brokers and wait until all accept connections."""
        for broker in self.brokers:
            broker.launch()
        for broker in self.brokers:
            broker.wait_started()

    def stop(self) -> None:
        """Stop the brokers."""
        for broker in self.brokers:
            broker.kill()


def running(folder: Path, secured: Secured | None = None) -> Iterator[ApacheKafka]:
    """Run a broker for a fixture; the test is skipped where that is not possible."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    _fetch_jars()
    kafka = ApacheKafka(folder, secured)
    kafka.start()
    try:
        yield kafka
    finally:
        kafka.stop()


def running_cluster(folder: Path, proxies: Sequence[int] = ()) -> Iterator[KafkaCluster]:
    """Run three brokers for a fixture; the test is skipped where that is not possible."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    _fetch_jars()
    kafka = KafkaCluster(folder, proxies)
    try:
        kafka.start()
        yield kafka
    finally:
        kafka.stop()


def _fetch_jars() -> None:
    if _JARS.is_dir():
        return
    fetched = _JARS.with_name(f"libs.{os.getpid()}")
    copy = "dependency:copy-dependencies"
    subprocess.run(
        ["mvn", "-q", "-B", "-f", str(_POM), copy, "-DincludeScope=runtime",
         f"-DoutputDirectory={fetched}"],
        check=True,
    )  # fmt: skip
    fetched.rename(_JARS)


def _as_pkcs8(key: bytes) -> bytes:
    """Return a private key in the one form that Kafka reads."""
    return load_pem_private_key(key, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
