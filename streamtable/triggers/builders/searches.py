"""Runs an app's search indexes."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from streamtable.consumers.dead_letters import DeadLetterReader
from streamtable.core.errors import StreamtableError
from streamtable.streams.topics import Topics
from streamtable.triggers.app import App
from streamtable.triggers.fingerprints import fingerprint
from streamtable.triggers.kinds import Declaration, Runner, Tools
from streamtable.triggers.searches import Search

if TYPE_CHECKING:
    from streamtable.consumers.search.spec import SearchSpec

__all__ = ["NoElasticsearch", "build", "declarations", "spec_of"]


class NoElasticsearch(StreamtableError):
    """An app has search indexes, and its worker was not told where Elasticsearch is."""


def declarations(app: App) -> Iterable[Declaration]:
    """Return the app's search indexes.

    A new one begins at the end of the log: what was before is in the table's rows, which it is
    filled from.
    """
    for search in app.searches.values():
        yield Declaration(
            "search",
            search.name,
            search.sources,
            start="LATEST",
            was=search.was,
            definition=search.definition(),
            declared=search,
        )


def build(declaration: Declaration, tools: Tools) -> Runner:
    """Return what runs a search index.

    Raises:
        NoElasticsearch: there is no client.
    """
    # The client is an extra, for those who have search indexes.
    from streamtable.consumers.search.letters import SearchLetters  # noqa: PLC0415
    from streamtable.consumers.search.runner import SearchRunner, SearchTools  # noqa: PLC0415

    if tools.elasticsearch is None:
        raise NoElasticsearch(
            f"the search index {tools.app}/{declaration.name} needs Elasticsearch: worker "
            "--elasticsearch URL, or STREAMTABLE_ELASTICSEARCH"
        )
    reader = DeadLetterReader(tools.source.address, Topics(tools.region).deadletters)
    return SearchRunner(
        spec_of(tools.app, declaration.declared),
        SearchTools(
            client=tools.elasticsearch,
            node=tools.node,
            source=tools.source,
            region=tools.region,
            shards=tools.shards,
            letters=SearchLetters(tools.state, tools.dead_letters, reader, tools.node),
            skip_lost=tools.skip_lost,
            tracer=tools.traces,
        ),
    )


def spec_of(app: str, search: Search) -> "SearchSpec":
    """Return a declared search index as the runner takes it."""
    from streamtable.consumers.search.spec import SearchSpec  # noqa: PLC0415

    settings = {} if search.settings is None else dict(search.settings)
    code = search.definition()["code"]
    return SearchSpec(
        app,
        search.name,
        search.table,
        search.index,
        search.mapping,
        settings,
        None if search.transform is None else search.document,
        fingerprint({"settings": settings, "code": code}),
    )
