"""`streamtable worker`."""

import asyncio
import gc
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from streamtable.cli.handler_options import (
    BatchSizeOption,
    BatchWindowOption,
    BisectOption,
    FilterOption,
    MaxAgeOption,
    NameOption,
    OnFailureOption,
    OnOption,
    ParallelismOption,
    ReportFailuresOption,
    RetriesOption,
    StartOption,
    TimeoutOption,
    WasOption,
    WindowOption,
    handler_options,
)
from streamtable.cli.options import DEFAULT_ENDPOINT, EndpointOption, TracesOption
from streamtable.cli.output import Failure, LogFormat, LogLevel, set_up_logging
from streamtable.cli.running import check_tracing, run_until_signal

if TYPE_CHECKING:
    from elasticsearch import AsyncElasticsearch

    from streamtable import App

__all__ = ["worker"]

# The Kafka consumers run in threads: at the default of 5 ms they wait for the interpreter
# longer than for the log.
_SWITCH_INTERVAL_S: Final = 0.0005
# As in a node: what changes leave behind is freed by reference counts, and the collector would look
# through all that is in flight again and again.
_GC_THRESHOLDS: Final = (100_000, 20, 50)


def worker(  # noqa: PLR0917 - options of the command line, named there
    app: Annotated[
        str | None,
        typer.Argument(
            metavar="[APP]",
            help="Where the app is: path/to/file.py:variable, module:variable, or a TOML file.",
        ),
    ] = None,
    handler: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE.FUNCTION",
            help="In place of APP: a Lambda function, as Lambda's configuration names it.",
        ),
    ] = None,
    table: Annotated[
        str | None, typer.Option("--table", "-t", help="With --handler: whose changes it gets.")
    ] = None,
    on: OnOption = None,
    filter_: FilterOption = None,
    batch_size: BatchSizeOption = None,
    batch_window_s: BatchWindowOption = None,
    retries: RetriesOption = None,
    max_age_s: MaxAgeOption = None,
    on_failure: OnFailureOption = None,
    start: StartOption = None,
    parallelism: ParallelismOption = None,
    timeout_s: TimeoutOption = None,
    bisect: BisectOption = None,
    tumbling_window_s: WindowOption = None,
    report_batch_item_failures: ReportFailuresOption = None,
    name: NameOption = None,
    was: WasOption = None,
    endpoint: EndpointOption = DEFAULT_ENDPOINT,
    elasticsearch: Annotated[
        str | None,
        typer.Option(
            metavar="URL,...",
            envvar="STREAMTABLE_ELASTICSEARCH",
            help="Elasticsearch, for an app with search indexes; user:password@ in it if need be.",
        ),
    ] = None,
    elasticsearch_api_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            envvar="STREAMTABLE_ELASTICSEARCH_API_KEY",
            help="An API key for Elasticsearch, in its encoded form.",
        ),
    ] = None,
    reload: Annotated[
        bool,
        typer.Option(
            "--reload", help="Start again when a Python file beside the app, or below, changes."
        ),
    ] = False,
    skip_lost: Annotated[
        bool,
        typer.Option(
            "--skip-lost",
            help="Go on where the log has lost changes that a trigger has not seen.",
        ),
    ] = False,
    traces: TracesOption = None,
    log_level: Annotated[
        LogLevel, typer.Option(help="How much to tell on stderr.")
    ] = LogLevel.INFO,
    log_format: Annotated[
        LogFormat, typer.Option(help="Lines for people, or JSON for log collectors.")
    ] = LogFormat.TEXT,
) -> None:
    """Run the triggers, views, searches and schedules of an app against a running node.

    Waits while the node is down. On Ctrl-C and SIGTERM the functions that run are finished and
    their positions committed. Exits with 1 when one of them has stopped on an error.
    """
    set_up_logging(log_level, log_format)
    if (app is None) == (handler is None):
        raise Failure("say what to run: APP, or --handler MODULE.FUNCTION --table TABLE")
    if (handler is None) != (table is None):
        raise Failure("--handler and --table go together")
    options = handler_options(
        on=on,
        filter=filter_,
        batch_size=batch_size,
        batch_window_s=batch_window_s,
        retries=retries,
        max_age_s=max_age_s,
        on_failure=on_failure,
        start=start,
        parallelism=parallelism,
        timeout_s=timeout_s,
        bisect=bisect,
        tumbling_window_s=tumbling_window_s,
        report_batch_item_failures=report_batch_item_failures,
        name=name,
        was=was,
    )
    if handler is None and options:
        raise Failure(
            f"{', '.join(map(_option, options))}: only with --handler; an app says it in its code"
        )
    if reload:
        from streamtable.cli.reloading import run_reloading

        run_until_signal(run_reloading(_folder(app), sys.argv[1:]))
        return
    loaded = _load(app, handler, table, options)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    gc.set_threshold(*_GC_THRESHOLDS)
    stopped: list[str] = []
    client = None
    if loaded.searches:
        client = _open_elasticsearch(loaded, elasticsearch, elasticsearch_api_key)
    if traces is not None:
        check_tracing()
    run_until_signal(
        _work(
            loaded,
            endpoint,
            skip_lost=skip_lost,
            client=client,
            collector=traces,
            stopped=stopped,
        )
    )
    if stopped:
        raise Failure(f"stopped on an error: {', '.join(stopped)}")


def _folder(app: str | None) -> Path:
    """Return the folder that the app's code is in."""
    where = "" if app is None else app.rpartition(":")[0]
    return Path(where).absolute().parent if where.endswith(".py") else Path.cwd()


def _option(argument: str) -> str:
    """Return the option that an argument of `App.lambda_trigger` was given by."""
    return "--filter" if argument == "where" else f"--{argument.replace('_', '-')}"


def _load(
    app: str | None, handler: str | None, table: str | None, options: Mapping[str, Any]
) -> "App":
    from streamtable.cli.loading import load_app, load_handler

    if app is None:
        assert handler is not None
        assert table is not None
        return load_handler(handler, table, options)
    loaded = load_app(app)
    if not (loaded.triggers or loaded.views or loaded.searches or loaded.schedules):
        checks = f". Its checks run in a node: streamtable serve --checks {app}"
        raise Failure(
            f"the app {loaded.name} in {app} has nothing to run: no triggers, views, searches or "
            f"schedules{checks if loaded.checks else ''}"
        )
    return loaded


def _open_elasticsearch(app: "App", url: str | None, api_key: str | None) -> "AsyncElasticsearch":
    """Return the client that the app's search indexes need."""
    if url is None:
        raise Failure(
            f"the app {app.name} has search indexes ({', '.join(app.searches)}): say where "
            "Elasticsearch is, --elasticsearch URL or STREAMTABLE_ELASTICSEARCH"
        )
    try:
        from streamtable.consumers.search.client import open_elasticsearch
    except ModuleNotFoundError:
        raise Failure(
            "search indexes need Elasticsearch's client: pip install 'streamtable[search]'"
        ) from None
    try:
        return open_elasticsearch(url, api_key=api_key)
    except ValueError as error:
        raise Failure(f"--elasticsearch: {error}") from None


async def _work(
    app: "App",
    url: str,
    *,
    skip_lost: bool,
    client: "AsyncElasticsearch | None",
    collector: str | None,
    stopped: list[str],
) -> None:
    from streamtable.triggers.endpoint import Endpoint
    from streamtable.triggers.worker import Worker

    async with AsyncExitStack() as stack:
        endpoint = await stack.enter_async_context(Endpoint(url))
        if client is not None:
            stack.push_async_callback(client.close)
        traces = None
        if collector is not None:
            from streamtable.tracing import Traces

            traces = Traces(collector, "streamtable-worker", {"streamtable.app": app.name})
            stack.push_async_callback(traces.close)
        running = Worker(app, endpoint, skip_lost=skip_lost, elasticsearch=client, traces=traces)
        try:
            await running.run()
        except asyncio.CancelledError:
            stopped.extend(running.stopped)
            raise
        stopped.extend(running.stopped)
