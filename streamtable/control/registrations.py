"""Registrations of consumers: where each began, and what may become of one."""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from streamtable.control.bodies import Change, Registration
from streamtable.control.starts import Starts
from streamtable.core.consumers import ConsumerDocument
from streamtable.core.errors import ResourceInUse, ResourceNotFound, ValidationError
from streamtable.streams.catalog import Catalog, ConsumerChangedMeanwhile
from streamtable.streams.group import SESSION_S

__all__ = ["Registrations"]

logger = logging.getLogger(__name__)

_ATTEMPTS: Final = 10
_SPARE_S: Final = 3.0
_ASK_AGAIN_S: Final = 0.2
# What the app writes as start= is kept beside the rest of its definition, to see it changed.
_START: Final = "start"


class Registrations:
    """Registers consumers, and changes their registrations.

    Every change builds on the registration that was seen: of two at once, the second one decides
    anew on what the first one made.

    Args:
        catalog: where registrations are kept.
        starts: says where the log is now.
        workers: returns the ids of the workers that run a consumer now, by its key.
        members: returns how many members a consumer group has.
        region: the region's name.
        session_s: how long a worker that died stays in its group, with something to spare.
    """

    def __init__(
        self,
        catalog: Catalog,
        starts: Starts,
        *,
        workers: Callable[[str], list[str]],
        members: Callable[[str], Awaitable[int]],
        region: str,
        session_s: float = SESSION_S + _SPARE_S,
    ) -> None:
        self._catalog = catalog
        self._starts = starts
        self._workers = workers
        self._members = members
        self._region = region
        self._session_s = session_s

    def find(self, app: str, name: str) -> ConsumerDocument:
        """Return a consumer's registration.

        Raises:
            ResourceNotFound: there is none.
        """
        found = self._catalog.consumer(app, name)
        if found is None:
            raise ResourceNotFound(f"There is no consumer {app}/{name}")
        return found

    async def register(self, asked: Registration) -> tuple[ConsumerDocument, list[str]]:
        """Register a consumer, or bring its registration up to date.

        1. A consumer that is registered keeps its position. Of what its definition has changed,
           and of a start that has changed, which has no effect, a note is made.
        2. One that is new under its name but `was` another one takes over its registration, and
           so goes on where that one stood.
        3. Any other begins where it asks to, resolved now and never again.

        Returns:
            The registration, and the notes, each a line for the worker's log.

        Raises:
            ValidationError: it would skip changes or have them again without anybody having said
                so; nothing was done. The text says what to do.
            LogUnavailable: the brokers do not answer.
        """
        for _ in range(_ATTEMPTS):
            try:
                return await self._register(asked)
            except ConsumerChangedMeanwhile:
                continue
        raise ConsumerChangedMeanwhile(asked.app, asked.name)

    async def _register(self, asked: Registration) -> tuple[ConsumerDocument, list[str]]:
        found = self._catalog.consumer(asked.app, asked.name)
        if found is not None:
            return await self._renew(found, asked)
        before = None
        if asked.was is not None:
            before = self._catalog.consumer(asked.app, asked.was)
        if before is not None:
            return await self._rename(before, asked)
        self._refuse_a_rename(asked)
        return await self._begin(asked)

    async def _renew(
        self, found: ConsumerDocument, asked: Registration
    ) -> tuple[ConsumerDocument, list[str]]:
        _refuse_another(found, asked)
        notes = []
        await self._finish_rename(found, asked)
        definition = _definition(asked)
        told = {name: value for name, value in definition.items() if name != _START}
        known = {name: value for name, value in found.definition.items() if name != _START}
        if told != known or asked.sources != found.sources:
            notes.append(f"{found.key} has changed: {_difference(known, told)}")
        if definition.get(_START) != found.definition.get(_START):
            notes.append(
                f"{found.key}: start={asked.start} has no effect, it began at {found.start_text} "
                f"on {_time(found.created)} and goes on where it stands. To begin elsewhere: "
                f"streamtable triggers reset {found.key} --to {asked.start}"
            )
        if notes:
            found = found.model_copy(update={"definition": definition, "sources": asked.sources})
            await self._catalog.put_consumer(found)
        return found, notes

    async def _finish_rename(self, found: ConsumerDocument, asked: Registration) -> None:
        """Remove the registration under the old name, if a renaming was cut off before that."""
        if asked.was in found.formerly:
            before = self._catalog.consumer(asked.app, asked.was)
            if before is not None and before.id == found.id:
                await self._catalog.remove_consumer(asked.app, asked.was)

    async def _rename(
        self, before: ConsumerDocument, asked: Registration
    ) -> tuple[ConsumerDocument, list[str]]:
        if before.name in asked.names:
            raise ValidationError(
                f"{asked.app}/{asked.name} was {before.name!r}, says its declaration, but the app "
                f"still has a {before.name!r}: remove was=, or the other one"
            )
        _refuse_another(before, asked)
        moved = before.model_copy(
            update={
                "name": asked.name,
                "formerly": (*before.formerly, before.name),
                "definition": _definition(asked),
            }
        )
        # The new name first: cut off between the two, the next registration finishes it.
        await self._catalog.put_consumer(moved)
        await self._catalog.remove_consumer(before.app, before.name)
        return moved, [f"{moved.key} goes on where {before.key} stood"]

    def _refuse_a_rename(self, asked: Registration) -> None:
        """Refuse a new trigger that looks like one whose name was changed."""
        if asked.kind != "trigger":
            return
        for other in self._catalog.consumers():
            if (
                other.app == asked.app
                and other.kind == asked.kind
                and other.sources == asked.sources
                and other.name not in asked.names
                and not self._workers(other.key)
            ):
                raise ValidationError(
                    f"the trigger {asked.app}/{asked.name} is new, and {other.key}, which takes "
                    f"the changes of {', '.join(other.sources)} too, is gone from the code. If it "
                    f"was renamed, say so, and it goes on where it stood: was={other.name!r}. If "
                    "it is the code of another worker, start that one first. If it is not needed "
                    f"any more, forget it: streamtable triggers remove {other.key}"
                )

    async def _begin(self, asked: Registration) -> tuple[ConsumerDocument, list[str]]:
        known = self._catalog.next_generation(asked.app, asked.name)
        document = ConsumerDocument(
            kind=asked.kind,
            app=asked.app,
            name=asked.name,
            id=uuid.uuid4().hex,
            sources=asked.sources,
            # One that says later where it begins has none before that.
            generation=known if asked.start is not None else known - 1,
            start={} if asked.start is None else await self._resolve(asked.start, asked),
            start_text=asked.start or "",
            created=time.time(),
            definition=_definition(asked),
        )
        await self._catalog.put_consumer(document)
        notes = []
        if asked.start is not None:
            notes.append(f"{document.key} is new and begins at {asked.start}")
        notes += self._renamed_apps(asked)
        if asked.was is not None:
            notes.append(f"{document.key}: there is no {asked.app}/{asked.was} to take over from")
        return document, notes

    def _renamed_apps(self, asked: Registration) -> list[str]:
        """Tell of a new trigger that looks like one of an app whose name was changed."""
        return [
            f"{asked.app}/{asked.name} takes what {other.key} took, which nobody runs now: "
            "positions are kept under the app's name. If the app was renamed, and it is to go on "
            f"where it stood, name it {other.app!r} again. If not: streamtable triggers remove "
            f"{other.key}"
            for other in self._catalog.consumers()
            if asked.kind == other.kind == "trigger"
            and (other.name, other.sources) == (asked.name, asked.sources)
            and other.app != asked.app
            and not self._workers(other.key)
        ]

    async def _resolve(self, start: str, asked: Registration) -> dict[int, int]:
        try:
            return await self._starts.resolve(start)
        except ValidationError as error:
            # An app has many: the worker is to say which.
            raise ValidationError(f"{asked.app}/{asked.name}, start={start}: {error}") from None

    async def change(self, asked: Change) -> ConsumerDocument:
        """Carry out what a user or a worker asks of a consumer; return its registration.

        Raises:
            ResourceInUse: it must not be done while workers run the consumer.
            ResourceNotFound: there is no such consumer.
            ValidationError: something that the action needs is missing or wrong.
            LogUnavailable: the brokers do not answer.
        """
        for _ in range(_ATTEMPTS):
            found = self.find(asked.app, asked.name)
            changed = await self._changed(found, asked)
            if changed == found:
                return found
            try:
                await self._catalog.put_consumer(changed)
            except ConsumerChangedMeanwhile:
                continue
            logger.info("%s: %s", changed.key, asked.action)
            return changed
        raise ConsumerChangedMeanwhile(asked.app, asked.name)

    async def redriven(self, app: str, name: str) -> None:
        """Have a consumer's workers look for records that were sent back to it."""
        for _ in range(_ATTEMPTS):
            found = self.find(app, name)
            try:
                await self._catalog.put_consumer(
                    found.model_copy(update={"redrives": found.redrives + 1})
                )
            except ConsumerChangedMeanwhile:
                continue
            return
        raise ConsumerChangedMeanwhile(app, name)

    async def _changed(self, found: ConsumerDocument, asked: Change) -> ConsumerDocument:
        update: dict[str, Any] = {}
        if asked.action in {"pause", "resume"}:
            update = {"paused": asked.action == "pause"}
        elif asked.action == "remove":
            await self._refuse_while_run(found, "take it out of the app, or stop them, first")
            update = {"removed": time.time()}
        elif asked.action == "reset":
            update = await self._reset(found, asked)
        elif asked.action == "request":
            if asked.request is None:
                raise ValidationError("request: what is asked for is missing")
            update = {"request": asked.request}
        elif asked.action == "begin":
            if asked.generation is None or asked.start is None:
                raise ValidationError("begin: generation and start are missing")
            if asked.generation < found.generation:
                raise ValidationError(
                    f"generation {asked.generation} is over: {found.key} is at {found.generation}"
                )
            done = found.request is not None and found.request.get("id") == asked.request_id
            update = {
                "generation": asked.generation,
                "start": asked.start,
                "request": None if done else found.request,
            }
        return found.model_copy(update=update)

    async def _reset(self, found: ConsumerDocument, asked: Change) -> dict[str, Any]:
        if found.kind != "trigger":
            raise ValidationError(
                f"{found.key} is a {found.kind}: it is rebuilt, streamtable "
                f"{'views' if found.kind == 'view' else found.kind} rebuild {found.name}"
            )
        if asked.to is None:
            raise ValidationError("to: where it is to begin is missing")
        start = await self._starts.resolve(asked.to)
        await self._refuse_while_run(found, "pause it and wait until they have stopped")
        return {
            "generation": self._catalog.next_generation(found.app, found.origin),
            "start": start,
            "start_text": asked.to,
            "paused": found.paused and not asked.resume,
        }

    async def _refuse_while_run(self, found: ConsumerDocument, advice: str) -> None:
        # A member that no worker reports may be one that died, or left while it was joining: the
        # group tells it from one that reports to another node when its session ends.
        group, given_up = found.group(self._region), time.monotonic() + self._session_s
        while not (workers := self._workers(found.key)):
            if not await self._members(group):
                return
            if time.monotonic() > given_up:
                break
            await asyncio.sleep(_ASK_AGAIN_S)
        named = f" ({', '.join(workers)})" if workers else ""
        raise ResourceInUse(f"Workers{named} run {found.key}: {advice}")


def _definition(asked: Registration) -> dict[str, Any]:
    return {**asked.definition, _START: asked.start}


def _refuse_another(found: ConsumerDocument, asked: Registration) -> None:
    """Refuse what can't go on where the one that is registered stands."""
    if found.kind != asked.kind:
        raise ValidationError(
            f"{found.key} is registered as a {found.kind}, and the app has a {asked.kind} of its "
            f"name: give it another name, or remove the old one: streamtable "
            f"{'views drop' if found.kind == 'view' else 'triggers remove'} {found.key}"
        )
    if found.kind == "trigger" and found.sources != asked.sources:
        raise ValidationError(
            f"the trigger {found.key} takes the changes of {', '.join(found.sources)}, and the app "
            f"has it on {', '.join(asked.sources)} now, where its position means nothing: give it "
            f"another name, or remove the old one: streamtable triggers remove {found.key}"
        )


def _difference(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Say what has changed between two definitions; the rest of it is hashes."""
    changed = [
        f"{name} {_short(before.get(name))} -> {_short(after.get(name))}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
    return ", ".join(changed) or "its tables"


def _short(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 80 else f"{text[:77]}..."


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
