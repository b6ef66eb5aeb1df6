"""Runs an app's views, aggregates and joins."""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from streamtable.consumers.dead_letters import DeadLetter, DeadLetterWriter
from streamtable.consumers.views.mapping import MappingFailed
from streamtable.consumers.views.runner import RejectLetter, ViewRunner, ViewTools
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
            reject=_rejecting(tools.dead_letters),
        ),
    )


def _rejecting(letters: DeadLetterWriter) -> RejectLetter:
    async def reject(
        document: ConsumerDocument, record: LogRecord, index: int, failure: MappingFailed
    ) -> None:
        change = record.changes()[index]
        now_ms = time.time_ns() // 1_000_000
        cause = failure.__cause__
        letter = DeadLetter.make(
            change,
            Position(record.shard, record.offset, index),
            kind="view",
            app=document.app,
            consumer=document.name,
            generation=document.generation,
            table=change.table,
            keys=change.keys,
            reason="rejected",
            attempts=1,
            first_failed_ms=now_ms,
            failed_ms=now_ms,
            error=failure if cause is None else cause,
        )
        await letters.add(letter)

    return reject
