"""An app in memory: for tests, and to run recorded changes against new code."""

import asyncio
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, TypeAlias, TypeVar

import orjson
from pydantic import BaseModel

from streamtable.consumers.triggers.deliveries import Delivery
from streamtable.core.changes import Change as LogChange
from streamtable.core.images import Image
from streamtable.core.plain import PlainItem, plain_item, wire_item, wire_value
from streamtable.core.positions import Position
from streamtable.core.values import Item, dump_item, item_size
from streamtable.triggers.change import Change
from streamtable.triggers.errors import InvalidDeclaration, UnknownName
from streamtable.triggers.handlers import public_change
from streamtable.triggers.item_types import dump_plain
from streamtable.triggers.memory_triggers import Call, DeadLetter, Failure, MemoryTrigger
from streamtable.triggers.memory_views import MemoryView, RowChange
from streamtable.triggers.recordings import Recorded, read_changes

if TYPE_CHECKING:
    from streamtable.triggers.app import App

__all__ = ["Replayer", "TestApp"]

ResultT = TypeVar("ResultT")
Key: TypeAlias = str | int | bytes | Mapping[str, Any] | tuple[Any, ...]

_KEY: Final = "id"
_REGION: Final = "local"
_EXPIRY: Final = "dynamodb.amazonaws.com"
_SHIFT: Final = 16  # of a version's clock, below the milliseconds


class TestApp:
    """An app in memory, with tables of its own; made by `App.test`.

        def test_orders_by_status():
            test = app.test().put("orders", {"id": "o1", "status": "open"})
            assert test.view("orders_by_status").items() == [{"status": "open", "id": "o1"}]

    Each write is handled by everything in the app before it returns: checks, triggers, views and
    what follows views, searches. What has failed is tried again at once. Nothing is raised that a
    trigger has raised: look at `calls`, `failures` and `dead_letters`. What a view raises is
    raised. Methods that write return the object, so that they can be chained.

    Args:
        app: the app.
        keys: the key attributes of the tables by name, where they are not `id`.
        retries: how often a failed change is tried again, for triggers that don't say.
        now_ms: a clock, milliseconds since 1970.
    """

    __test__: ClassVar[bool] = False  # pytest: this is no test

    def __init__(
        self,
        app: "App",
        *,
        keys: Mapping[str, str | Iterable[str]] | None = None,
        retries: int = 2,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._app = app
        self._now_ms = now_ms
        self._keys = {
            name: (key,) if isinstance(key, str) else tuple(key)
            for name, key in (keys or {}).items()
        }
        self._keys.update((name, view.keys.names) for name, view in app.views.items())
        self._tables: dict[str, dict[bytes, Item]] = {}
        self._triggers = {
            name: MemoryTrigger(trigger, retries) for name, trigger in app.triggers.items()
        }
        self._views = {name: MemoryView(app.name, view) for name, view in app.views.items()}
        self._documents: dict[str, dict[bytes, Any]] = {name: {} for name in app.searches}
        self._rejected: list[DeadLetter] = []
        self._offset = 0
        self._clock = 0
        self._loop: _Loop | None = None

    # Writes

    def put(self, table: str, item: Mapping[str, Any] | BaseModel) -> Self:
        """Put an item, a dict or a model.

        Raises:
            Refused: a check refuses it; nothing is done then.
            InvalidDeclaration: its key is not known: name it in `keys`. Or the table is a view.
        """
        wire = wire_item(dump_plain(item))
        return self._commit(table, self._key(table, wire), wire)

    def update(self, table: str, key: Key, changes: Mapping[str, Any]) -> Self:
        """Put attributes into an item, made if it is not there.

        Args:
            table: the table.
            key: the key's value, a tuple of two, or a dict.
            changes: the new values by name. As plain DynamoDB has it, None is the value NULL.

        Raises:
            Refused: a check refuses it; nothing is done then.
        """
        wanted = self._parse_key(table, key)
        old = self._tables.get(table, {}).get(orjson.dumps(wanted), {})
        return self._commit(table, wanted, {**wanted, **old, **wire_item(changes)})

    def remove(self, table: str, key: Key, *, expired: bool = False) -> Self:
        """Remove an item, if it is there.

        Args:
            table: the table.
            key: the key's value, a tuple of two, or a dict.
            expired: it goes because its time to live is over; checks are not asked.

        Raises:
            Refused: a check refuses it; nothing is done then.
        """
        return self._commit(table, self._parse_key(table, key), None, expired=expired)

    def feed(self, recorded: Recorded | Iterable[LogChange]) -> Self:
        """Take changes as they were recorded, all at once, so that triggers get batches.

        Checks are not asked: these changes have happened. Of a view of the app whose source is
        recorded too, recorded rows are passed over: the view makes them.

        Args:
            recorded: a file of `streamtable log tail --json`, its lines, or changes of the log.

        Raises:
            InvalidRecording: something is no change.
        """
        listed = recorded if isinstance(recorded, (str, Path)) else list(recorded)
        changes: list[tuple[LogChange, Position]] = []
        if isinstance(listed, list) and all(isinstance(each, LogChange) for each in listed):
            changes = [(each, self._position()) for each in listed if isinstance(each, LogChange)]
        else:
            changes = list(read_changes(listed))  # type: ignore[arg-type]  # it says what it is not
        recorded_tables = {change.table for change, _ in changes}
        made_here = {
            name
            for name, view in self._views.items()
            if not recorded_tables.isdisjoint(view.view.sources)
        }
        taken = [each for each in changes if each[0].table not in made_here]
        self._begin_with(change for change, _ in taken)
        self._take(taken)
        return self

    def run_schedule(self, name: str, due: datetime | None = None) -> Self:
        """Call a schedule's function, for a time, now unless told.

        Raises:
            UnknownName: the app has no such schedule.
            Exception: what the function raised.
        """
        schedule = _find(self._app.schedules, "schedule", name)
        now = datetime.fromtimestamp(self._now_ms() / 1000, UTC)
        self._run(schedule.call(now if due is None else due))
        return self

    def close_windows(self) -> Self:
        """End the tumbling windows that are open, as their time would."""

        async def close() -> None:
            for trigger in self._triggers.values():
                await trigger.close_windows()

        self._run(close())
        return self

    # What has come of them

    def calls(self, trigger: str | None = None) -> list[Call]:
        """Return the calls of a trigger's function, or of all, in order.

        Raises:
            UnknownName: the app has no such trigger.
        """
        return [call for each in self._chosen(trigger) for call in each.calls]

    def changes(self, trigger: str) -> list[Change[Any]]:
        """Return the changes that a trigger has handled, once each, as plain dicts.

        Raises:
            UnknownName: the app has no such trigger.
        """
        failed = {
            (failure.change.position, failure.attempts)
            for failure in _find(self._triggers, "trigger", trigger).failures
        }
        handled: dict[Position, Change[Any]] = {}
        for call in self.calls(trigger):
            for change in call.changes if call.error is None else ():
                if (change.position, change.attempts) not in failed:
                    handled.setdefault(change.position, change)
        return list(handled.values())

    @property
    def failures(self) -> list[Failure]:
        """All failed attempts of triggers."""
        return [failure for each in self._triggers.values() for failure in each.failures]

    @property
    def dead_letters(self) -> list[DeadLetter]:
        """All changes that were given up."""
        found = [letter for each in self._triggers.values() for letter in each.dead_letters]
        return found + self._rejected

    def view(self, name: str) -> MemoryView:
        """Return a view, an aggregate or a join; its rows are `items()`.

        Raises:
            UnknownName: the app has no such view.
        """
        return _find(self._views, "view", name)

    def items(self, table: str) -> list[PlainItem]:
        """Return the items of a table as Python values, in the order in which they came."""
        return [plain_item(item) for item in self._tables.get(table, {}).values()]

    def documents(self, search: str) -> list[Any]:
        """Return the documents that a search has made.

        Raises:
            UnknownName: the app has no such search.
        """
        return list(_find(self._documents, "search", search).values())

    def summary(self) -> dict[str, dict[str, int]]:
        """Count `calls`, `changes` handled, `failures` and `dead_letters` of each trigger."""
        return {
            name: {
                "calls": len(trigger.calls),
                "changes": len(self.changes(name)),
                "failures": len(trigger.failures),
                "dead_letters": len(trigger.dead_letters),
            }
            for name, trigger in self._triggers.items()
        }

    # Inside

    def _commit(self, table: str, key: Item, new: Item | None, *, expired: bool = False) -> Self:
        if table in self._views:
            raise InvalidDeclaration(
                f"{table} is a view, which can only be read: its rows follow from the items of "
                f"{', '.join(self._views[table].view.sources)}. Change those instead"
            )
        old = self._tables.get(table, {}).get(orjson.dumps(key))
        if old == new:
            return self
        if not expired:
            for check in self._app.checks.values():
                if check.table == table:
                    check.run(old, new)
        self._take([(self._change(table, key, old, new, expired=expired), self._position())])
        return self

    def _change(
        self, table: str, key: Item, old: Item | None, new: Item | None, *, expired: bool = False
    ) -> LogChange:
        now_ms = self._now_ms()
        self._clock = max(self._clock + 1, now_ms << _SHIFT)
        return LogChange(
            table=table,
            table_id=f"test-{table}",
            keys=key,
            old=None if old is None else self._image(old),
            new=None if new is None else self._image(new),
            time=self._clock,
            region=_REGION,
            created_ms=now_ms,
            request_id="TEST",
            principal="test",
            service=_EXPIRY if expired else None,
        )

    def _image(self, item: Item) -> Image:
        return Image(dump_item(item), item_size(item), self._clock, _REGION, item)

    def _position(self) -> Position:
        self._offset += 1
        return Position(0, self._offset, 0)

    def _take(self, changes: Iterable[tuple[LogChange, Position]]) -> None:
        """Give changes to all, and what views make of them too."""
        pending = deque(changes)
        self._offset = max([self._offset, *(position.offset for _, position in pending)])
        while pending:
            change, position = pending.popleft()
            for name, search in self._app.searches.items():
                if search.table == change.table:
                    self._index(name, change, position)
            for trigger in self._triggers.values():
                trigger.offer(change, position)
            pending.extend(self._follow(change, position))
        self._run(self._run_triggers())

    def _begin_with(self, recorded: Iterable[LogChange]) -> None:
        """Have views begin with the items as they were before the first change of each.

        What an item had contributed then could not be taken back otherwise.
        """
        known = {(table, identity) for table, items in self._tables.items() for identity in items}
        pending: deque[tuple[LogChange, Position]] = deque()
        for change in recorded:
            item = (change.table, orjson.dumps(change.keys))
            if item not in known and change.old is not None:
                before = self._change(change.table, change.keys, None, change.old.item)
                pending.append((before, self._position()))
            known.add(item)
        rejected = len(self._rejected)
        while pending:
            pending.extend(self._follow(*pending.popleft()))
        del self._rejected[rejected:]

    def _follow(self, change: LogChange, position: Position) -> list[tuple[LogChange, Position]]:
        """Store a change and give it to the views; return how their rows change."""
        self._store(change)
        return [
            row
            for view in self._views.values()
            if change.table in view.view.sources
            for row in self._feed_view(view, change, position)
        ]

    async def _run_triggers(self) -> None:
        for trigger in self._triggers.values():
            await trigger.run()

    def _store(self, change: LogChange) -> None:
        items = self._tables.setdefault(change.table, {})
        identity = orjson.dumps(change.keys)
        if change.new is None:
            items.pop(identity, None)
        else:
            items[identity] = change.new.item

    def _feed_view(
        self, view: MemoryView, change: LogChange, position: Position
    ) -> list[tuple[LogChange, Position]]:
        rows, failure = view.apply(change)
        if failure is not None:
            shown = public_change(Delivery(change, position))
            cause = failure.__cause__ or failure
            self._rejected.append(DeadLetter(view.view.name, shown, cause, 1))
        return [(self._row_change(view.view.name, row), self._position()) for row in rows]

    def _row_change(self, view: str, row: RowChange) -> LogChange:
        key, old, new = row
        return self._change(view, key, old, new)

    def _index(self, name: str, change: LogChange, position: Position) -> None:
        documents = self._documents[name]
        identity = orjson.dumps(change.keys)
        document = None
        if change.new is not None:
            try:
                document = self._app.searches[name].document(change.new.item)
            except Exception as error:  # noqa: BLE001 - a document's failure is its own
                shown = public_change(Delivery(change, position))
                self._rejected.append(DeadLetter(name, shown, error, 1))
                return
        if document is None:
            documents.pop(identity, None)
        else:
            documents[identity] = document

    def _key(self, table: str, item: Item) -> Item:
        names = self._keys.get(table, (_KEY,))
        missing = [name for name in names if name not in item]
        if missing:
            raise InvalidDeclaration(
                f"an item of {table} has no {missing[0]!r}: say what the table's key is, "
                f'app.test(keys={{"{table}": ...}})'
            )
        return {name: item[name] for name in names}

    def _parse_key(self, table: str, key: Key) -> Item:
        if isinstance(key, Mapping):
            return self._key(table, wire_item(key))
        values = key if isinstance(key, tuple) else (key,)
        names = self._keys.get(table, (_KEY,))
        if len(values) != len(names):
            raise InvalidDeclaration(f"the key of {table} has the attributes {', '.join(names)}")
        return {name: wire_value(value) for name, value in zip(names, values, strict=True)}

    def _chosen(self, trigger: str | None) -> Iterable[MemoryTrigger]:
        if trigger is None:
            return self._triggers.values()
        return [_find(self._triggers, "trigger", trigger)]

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in a loop of the object's own, also where another one runs."""
        if self._loop is None:
            self._loop = _Loop()
            weakref.finalize(self, self._loop.close)
        self._loop.run(work)


class Replayer:
    """Runs recorded changes against an app's code, without effect on any position or table.

        done = Replayer(app).replay("changes.ndjson")
        assert not done.dead_letters

    Record them with `streamtable log tail --json --from earliest > changes.ndjson`.

    Args:
        app: the app.
        retries: how often a failed change is tried again, for triggers that don't say.
    """

    def __init__(self, app: "App", *, retries: int = 0) -> None:
        self._app = app
        self._retries = retries

    def replay(self, recorded: Recorded | Iterable[LogChange]) -> TestApp:
        """Run changes against the app; what each trigger did, and the views' rows, are returned.

        The changes of each shard come in their order, in batches as large as the triggers take
        them. The functions are called for real: what they do to the world, they do.

        Args:
            recorded: a file of `streamtable log tail --json`, its lines, or changes of the log.

        Raises:
            InvalidRecording: something is no change.
            OSError: the file can't be read.
        """
        return TestApp(self._app, retries=self._retries).feed(recorded)


class _Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _find(known: Mapping[str, ResultT], kind: str, name: str) -> ResultT:
    try:
        return known[name]
    except KeyError:
        has = ", ".join(known) or "none"
        raise UnknownName(f"the app has no {kind} {name!r}; it has {has}") from None
