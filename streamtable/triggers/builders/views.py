"""Runs an app's views, aggregates and joins."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from streamtable.consumers.dead_letters import DeadLetter, DeadLetterWriter, letter_error
from streamtable.consumers.views.mapping import MappingFailed
from streamtable.consumers.views.runner import ViewRunner
from streamtable.consumers.views.tools import RejectLetter, ViewTools
from streamtable.core.consumers import ConsumerDocument
from streamtable.core.positions import Position
from streamtable.streams.records import LogRecord
from streamtable.triggers.kinds import Declaration, Tools
from streamtable.triggers.view_specs import spec_of

if TYPE_CHECKING:
    from streamtable.triggers.app import App

__all__ = ["build", "declarations"]


def declarations(app: "App") -> Iterable[Declaration]:
    """Return the app's views, aggregates and joins; each says itself where it begins."""
    for view in app.views.values():
        yield Declaration(
            "view",
            view.name,
            view.sources,
            start=None,
            was=view.was,
            definition=view.definition(),
            declared=view,
        )


def build(declaration: Declaration, tools: Tools) -> ViewRunner:
    """Return what runs a view."""
    spec = spec_of(tools.app, declaration.declared)
    return ViewRunner(
        spec,
        ViewTools(
            node=tools.node,
            source=tools.source,
            region=tools.region,
            shards=tools.shards,
            worker_id=tools.worker_id,
            state=tools.state,
            reject_letter=_rejecting(tools.dead_letters),
            tracer=tools.traces,
        ),
    )


def _rejecting(letters: DeadLetterWriter) -> RejectLetter:
    async def reject(
        document: ConsumerDocument, record: LogRecord, index: int, failure: MappingFailed
    ) -> None:
        cause = failure.__cause__
        error = letter_error(failure if cause is None else cause)
        position = Position(record.shard, record.offset, index)
        await letters.add(DeadLetter.rejected(document, record.changes()[index], position, error))

    return reject
