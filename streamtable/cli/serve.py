"""`streamtable serve`."""

import errno
import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamtable.cli.brokers import brokers_needed
from streamtable.cli.node_settings import settings_of
from streamtable.cli.options import KafkaConfigOption, TracesOption
from streamtable.cli.output import Failure, LogFormat, LogLevel, print_line, set_up_logging, stdout
from streamtable.cli.running import check_tracing, run_until_signal

if TYPE_CHECKING:
    from streamtable.control.checks import Checks
    from streamtable.node import Node
    from streamtable.processes import Processes
    from streamtable.settings import NodeSettings

__all__ = ["serve"]

_READY = """\
streamtable {version} is ready: {endpoint}
data in {data}, change log at {kafka} ({region}.changelog)

Try it:

  export AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local AWS_DEFAULT_REGION={region} AWS_PAGER=
  aws dynamodb create-table --endpoint-url {endpoint} --table-name users \\
    --attribute-definitions AttributeName=id,AttributeType=S \\
    --key-schema AttributeName=id,KeyType=HASH --billing-mode PAY_PER_REQUEST
  aws dynamodb put-item --endpoint-url {endpoint} --table-name users \\
    --item '{{"id": {{"S": "1"}}, "name": {{"S": "Ada"}}, "email": {{"S": "ada@example.com"}}}}'

Ctrl-C stops it."""

_OPEN = (
    "listening on {host}: whoever reaches port {port} can read and change every table. "
    "Signatures are not checked, and the connection is not encrypted."
)


_EMBEDDED = ". Without --kafka, an embedded broker is started"


def serve(  # noqa: PLR0917 - the options of the command
    host: Annotated[
        str, typer.Option(help="Address to listen on. Nothing is protected on other than loopback.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the endpoint; 0 takes a free one.")
    ] = 8000,
    data: Annotated[
        Path, typer.Option(file_okay=False, help="Folder for everything that is kept.")
    ] = Path("data"),
    region: Annotated[
        str, typer.Option(help="Name of this deployment; its topics' names begin with it.")
    ] = "local",
    account: Annotated[
        str, typer.Option(help="Account id in resource names, 12 digits.")
    ] = "000000000000",
    kafka: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT,...", help="Kafka brokers, in place of the embedded one."),
    ] = None,
    kafka_config: KafkaConfigOption = None,
    advertise: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            show_default="a port on loopback",
            help="Address at which other nodes on these brokers reach this one.",
        ),
    ] = None,
    peer_secret_file: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="File with a secret that all nodes of the region know."),
    ] = None,
    peer_tls_cert: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="This node's certificate for other nodes."),
    ] = None,
    peer_tls_key: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Its private key.")
    ] = None,
    peer_tls_ca: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="The authority that signed all nodes' certificates."),
    ] = None,
    replicas: Annotated[
        int,
        typer.Option(min=0, max=10, help="On how many further nodes each shard is kept ready."),
    ] = 1,
    workers: Annotated[
        int,
        typer.Option(min=1, max=256, help="In how many processes to run, each with its shards."),
    ] = 1,
    broker_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the embedded broker, on loopback.")
    ] = 19092,
    shards: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            show_default="4",
            help="Shards of the change log, where it is made now; for more: streamtable reshard.",
        ),
    ] = None,
    table_delay_ms: Annotated[
        int,
        typer.Option(min=0, help="How long tables stay CREATING, UPDATING and DELETING."),
    ] = 0,
    ttl_interval_s: Annotated[
        float, typer.Option(help="How often expired items are looked for, seconds.")
    ] = 1.0,
    checks: Annotated[
        list[str] | None,
        typer.Option(
            metavar="APP",
            help="An app whose checks are asked before each write: path/to/file.py:variable, or "
            "module:variable; may be given again.",
        ),
    ] = None,
    checkpoints: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE",
            show_default="checkpoints in the data folder",
            help="Where checkpoints and backups are kept: a folder, s3://bucket/prefix, "
            "gs://..., az://..., or none.",
        ),
    ] = None,
    checkpoint_interval_s: Annotated[
        float, typer.Option(help="How often a shard that has changed gets one, seconds.")
    ] = 900.0,
    traces: TracesOption = None,
    trace_ratio: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Share of requests that are traced, where they do not say it."
        ),
    ] = 0.01,
    log_level: Annotated[
        LogLevel, typer.Option(help="How much to tell on stderr.")
    ] = LogLevel.INFO,
    log_format: Annotated[
        LogFormat, typer.Option(help="Lines for people, or JSON for log collectors.")
    ] = LogFormat.TEXT,
) -> None:
    """Start a node: DynamoDB's API on http://127.0.0.1:8000.

    Stops in good order on Ctrl-C and SIGTERM. What was answered is durable at any time.
    """
    settings = settings_of(
        host=host,
        port=port,
        data=data,
        region=region,
        account=account,
        kafka=kafka,
        kafka_config=kafka_config,
        advertise=advertise,
        peer_secret_file=peer_secret_file,
        peer_tls_cert=peer_tls_cert,
        peer_tls_key=peer_tls_key,
        peer_tls_ca=peer_tls_ca,
        replicas=replicas,
        workers=workers,
        broker_port=broker_port,
        shards=shards,
        table_delay_ms=table_delay_ms,
        ttl_interval_s=ttl_interval_s,
        checkpoints=checkpoints,
        checkpoint_interval_s=checkpoint_interval_s,
        traces=traces,
        trace_ratio=trace_ratio,
    )
    if kafka_config is not None and kafka is None:
        raise Failure("--kafka-config is for the brokers that --kafka names")
    if workers > 1 and advertise is not None:
        raise Failure("--advertise is for one process: with --workers, run a node on each machine")
    if traces is not None:
        check_tracing()
    set_up_logging(log_level, log_format)
    from streamtable.node import Node
    from streamtable.processes import Processes, Seat

    found = _load_checks(checks) if checks else None
    made: Node | Processes
    if workers == 1:
        made = Node(settings, found)
    else:
        seat = Seat(
            number=0,
            settings=settings,
            checks=tuple(checks or ()),
            log_level=log_level,
            log_format=log_format,
        )
        made = Processes(settings, seat)
    run_until_signal(_serve(settings, made))


def _load_checks(targets: list[str]) -> "Checks":
    from streamtable.cli.loading import load_checks

    found = load_checks(targets)
    for line in found.describe():
        print_line(line)
    return found


async def _serve(settings: "NodeSettings", made: "Node | Processes") -> None:
    from importlib.metadata import version

    from streamtable.core.errors import StreamtableError
    from streamtable.streams.open_files import open_files_advice

    try:
        if settings.kafka is None:
            await made.start()
        else:
            async with brokers_needed(settings.kafka, settings.kafka_config, _EMBEDDED):
                await made.start()
    except OSError as error:
        if isinstance(error, StreamtableError):
            raise
        if error.errno == errno.EMFILE:
            raise Failure(f"too many files are open. {open_files_advice()}") from error
        raise Failure(f"{error.filename or settings.data}: {error.strerror or error}") from error
    try:
        if not _is_loopback(settings.host):
            print_line(_OPEN.format(host=settings.host, port=made.endpoint.rpartition(":")[2]))
        stdout().print(
            _READY.format(
                version=version("streamtable"),
                endpoint=made.endpoint,
                data=settings.data.absolute(),
                kafka=made.kafka,
                region=settings.region,
            )
        )
        await made.wait_failed()
    finally:
        await made.stop()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
