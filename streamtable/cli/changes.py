"""Changes of the log as people and programs read them."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import orjson
from rich.text import Text

from streamtable.core.changes import Change, change_to_json
from streamtable.core.positions import Position
from streamtable.core.values import Item, Value
from streamtable.streams.records import LogRecord

__all__ = ["barrier_text", "change_json", "change_text", "void_text"]

_EVENT_STYLES: Final = {"INSERT": "green", "MODIFY": "yellow", "REMOVE": "red"}
_VALUE_LENGTH: Final = 80
_BARE: Final = frozenset({"S", "N", "BOOL", "NULL"})


def change_json(change: Change, position: Position) -> str:
    """Return a change as one line of JSON: as the log has it, and where it is."""
    found = {
        "shard": position.shard,
        "offset": position.offset,
        "index": position.index,
        "sequenceNumber": position.sequence_number,
        **change_to_json(change),
    }
    return orjson.dumps(found).decode()


def change_text(change: Change, position: Position) -> Text:
    """Return a change in a line, and a line for each attribute that is not what it was."""
    keys = " ".join(f"{name}={_value(value)}" for name, value in change.keys.items())
    text = Text.assemble(
        (_time(change.created_ms), "dim"),
        "  ",
        (f"{position.shard}/{position.offset}.{position.index}", "cyan"),
        "  ",
        (change.table, "bold"),
        "  ",
        (change.event_name, _EVENT_STYLES[change.event_name]),
        f"  {keys}",
    )
    old = {} if change.old is None else change.old.item
    new = {} if change.new is None else change.new.item
    for line in _differences(old, new, change.keys):
        text.append("\n    ").append_text(line)
    return text


def barrier_text(record: LogRecord) -> Text:
    """Return the line for the start of an owner's term."""
    details = orjson.loads(record.value)
    node = details.get("node", "unknown") if isinstance(details, dict) else "unknown"
    return _remark(record, f"{node} takes the shard over, epoch {record.epoch}")


def void_text(record: LogRecord) -> Text:
    """Return the line for a commit that does not count."""
    return _remark(record, f"void: written by an owner that had lost the shard ({record.epoch})")


def _remark(record: LogRecord, text: str) -> Text:
    where = f"{record.shard}/{record.offset}"
    return Text(f"{_time(record.timestamp_ms)}  {where}  {text}", style="dim")


def _differences(old: Item, new: Item, keys: Item) -> Iterator[Text]:
    for name, before in old.items():
        if name in keys:
            continue
        if name not in new:
            yield Text(f"- {name}: {_value(before)}", style="red")
        elif new[name] != before:
            yield Text(f"~ {name}: {_value(before)} -> {_value(new[name])}", style="yellow")
    for name, after in new.items():
        if name not in keys and name not in old:
            yield Text(f"+ {name}: {_value(after)}", style="green")


def _value(value: Value) -> str:
    """Return a value, shortened; with its type where that can't be seen from it."""
    ((kind, content),) = value.items()
    shown = content if kind == "N" else _json(content)
    if kind == "NULL":
        shown = "null"
    shown = shown if kind in _BARE else f"{kind} {shown}"
    return shown if len(shown) <= _VALUE_LENGTH else f"{shown[: _VALUE_LENGTH - 1]}…"


def _json(content: Any) -> str:
    return orjson.dumps(content).decode()


def _time(milliseconds: int) -> str:
    return (
        datetime.fromtimestamp(milliseconds / 1000).astimezone().isoformat(" ", "milliseconds")[:23]
    )
