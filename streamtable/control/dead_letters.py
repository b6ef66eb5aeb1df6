"""The changes that consumers gave up: shown, sent back, dropped."""

import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from streamtable.consumers.dead_letters import (
    DeadLetter,
    DeadLetterWriter,
    Resolution,
    read_dead_letters,
)
from streamtable.consumers.triggers.entries import redriven
from streamtable.consumers.triggers.state import SAVE_ITEMS, StateStore
from streamtable.control.bodies import Settlement, parse_body
from streamtable.control.registrations import Registrations
from streamtable.core.consumers import ConsumerDocument
from streamtable.core.errors import ResourceNotFound, ValidationError
from streamtable.streams.catalog import Catalog

__all__ = ["DeadLetters"]


class DeadLetters:
    """The pages on dead letters.

    Args:
        address: the brokers, `host:port,...`.
        topic: the dead letters' topic.
        catalog: the consumers.
        registrations: tells their workers of what is sent back.
        state: where consumers keep what they have parked.
    """

    def __init__(
        self,
        address: str,
        topic: str,
        *,
        catalog: Catalog,
        registrations: Registrations,
        state: StateStore,
    ) -> None:
        self._address = address
        self._topic = topic
        self._catalog = catalog
        self._registrations = registrations
        self._state = state
        self._writer = DeadLetterWriter(address, topic)

    async def stop(self) -> None:
        """Let go of the brokers."""
        await self._writer.close()

    async def show(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Return the open letters; with `consumer=APP/NAME` or `id=ID`, those."""
        found = await read_dead_letters(self._address, self._topic)
        if "id" in query:
            found = [letter for letter in found if letter.id == query["id"]]
        if "consumer" in query:
            found = self._of(found, query["consumer"])
        return {"letters": [_describe(letter) for letter in found]}

    async def settle(self, body: dict[str, Any]) -> dict[str, Any]:
        """Send letters back, or drop them: `ids`, or all of a `consumer`, or `all`.

        A letter that is sent back is parked by its consumer, in place of the change, and tried as
        if for the first time; later changes of its item wait for it. Those of one item are tried
        in their order. The letter is closed after that is durable. Views take none back: their
        rows come with a rebuild.

        Returns:
            The ids that it was `done` for, and those that were `refused`, each with why.
        """
        asked = parse_body(Settlement, body)
        found = await read_dead_letters(self._address, self._topic)
        refused: dict[str, str] = {}
        if not asked.all:
            if asked.consumer is not None:
                found = self._of(found, asked.consumer)
            elif asked.ids:
                known = {letter.id for letter in found}
                refused = {
                    each: "there is no such letter" for each in asked.ids if each not in known
                }
                found = [letter for letter in found if letter.id in asked.ids]
            else:
                raise ValidationError("say which letters: ids, consumer or all")
        if asked.action == "redrive":
            found = await self._send_back(found, refused)
        now_ms = time.time_ns() // 1_000_000
        how: Resolution = "redriven" if asked.action == "redrive" else "dropped"
        for letter in found:
            await self._writer.resolve(letter, how, now_ms)
        return {"done": [letter.id for letter in found], "refused": refused}

    async def _send_back(
        self, letters: list[DeadLetter], refused: dict[str, str]
    ) -> list[DeadLetter]:
        """Have consumers try letters' changes again; return those that they will try."""
        by_owner: dict[tuple[str, int], list[DeadLetter]] = defaultdict(list)
        consumers: dict[str, ConsumerDocument] = {}
        for letter in letters:
            consumer = self._consumer(letter)
            if consumer is None:
                refused[letter.id] = f"there is no {letter.app}/{letter.consumer} any more"
            elif consumer.kind == "view":
                # What other changes have made of the rows since then can't be told from this one.
                refused[letter.id] = (
                    f"{consumer.key} is a view: once its function is mended, streamtable views "
                    f"rebuild {consumer.key} makes the rows, and the letter can be dropped"
                )
            elif letter.change is None:
                refused[letter.id] = "the log had lost its change"
            else:
                consumers[consumer.key] = consumer
                by_owner[consumer.key, letter.position.shard].append(letter)
        done = []
        now_ms = time.time_ns() // 1_000_000
        for (key, shard), group in by_owner.items():
            group.sort(key=lambda letter: letter.position)
            rows = [
                redriven(each.position, each.keys, (each.partition, each.offset), now_ms)
                for each in group
            ]
            for first in range(0, len(rows), SAVE_ITEMS):
                await self._state.save(
                    consumers[key].owner(shard), dict(rows[first : first + SAVE_ITEMS])
                )
            done += group
        for consumer in consumers.values():
            try:
                await self._registrations.redriven(consumer.app, consumer.name)
            except ResourceNotFound:
                continue  # removed meanwhile, and what it had parked with it
        return done

    def _consumer(self, letter: DeadLetter) -> ConsumerDocument | None:
        """Return the consumer that a letter goes back to, by its name now."""
        found = self._catalog.consumer(letter.app, letter.consumer)
        if found is not None:
            return found
        for other in self._catalog.consumers():
            if other.app == letter.app and letter.consumer in other.formerly:
                return other
        return None

    def _of(self, letters: list[DeadLetter], key: str) -> list[DeadLetter]:
        return [
            letter
            for letter in letters
            if key == f"{letter.app}/{letter.consumer}"
            or ((found := self._consumer(letter)) is not None and found.key == key)
        ]


def _describe(letter: DeadLetter) -> dict[str, Any]:
    return {**letter.to_json(), "partition": letter.partition, "offset": letter.offset}
