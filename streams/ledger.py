"""What one shard knows beside its rows: transactions, client tokens, how far views are fed.

A commit notes its part in a transaction as an entry, JSON under `transactions` beside its
changes; consumers of the log need not look at them. Kinds of entry, by `phase`:

| phase | where | what |
|---|---|---|
| prepare | a participant | the conditions held; `changes` are locked and wait |
| decide | the coordinator | `commit` true: every participant must apply; false: none may |
| resolve | a participant | the prepared changes of `id` were applied or dropped |
| token | where the first item is | the client's token has been used, with the request's digest |
| view | where rows of a view are | `view` has here what follows from shard `source` to `through` |

No decision means that the transaction did not happen.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from streamtable.core.changes import Change, change_from_json
from streamtable.streams.commit import Commit

__all__ = [
    "DECISION_MS",
    "TOKEN_MS",
    "Fed",
    "Ledger",
    "Place",
    "Prepared",
    "Token",
    "decide_entry",
    "prepare_entry",
    "resolve_entry",
    "token_entry",
    "view_entry",
]

Entry = dict[str, Any]

Place = tuple[int, int]
"""A place in a source shard's log: an offset, and a number that grows within it."""

TOKEN_MS: Final = 10 * 60 * 1000
"""How long a client token is remembered. Source: API_TransactWriteItems, ClientRequestToken."""

DECISION_MS: Final = 24 * 60 * 60 * 1000
"""How long a decision is kept for participants that were away."""


class Prepared(NamedTuple):
    """Changes that wait for the coordinator's decision.

    Attributes:
        id: the transaction's id.
        coordinator: number of the shard that decides.
        changes: what is to be applied.
        locked: row keys that nobody else may change meanwhile: of the changes, in their order,
            and then of items that are only checked.
    """

    id: str
    coordinator: int
    changes: tuple[Change, ...]
    locked: tuple[bytes, ...]


class Token(NamedTuple):
    """A client token that was used.

    Attributes:
        digest: tells requests apart.
        used_ms: when, milliseconds since 1970.
    """

    digest: str
    used_ms: int


class Fed(NamedTuple):
    """How far a view is fed.

    Attributes:
        through: the last place in the source's log whose rows are here.
        commit: what brought them; None where that is in the store.
    """

    through: Place
    commit: Commit | None


class Ledger:
    """What a shard notes beside its rows, in memory; `load` brings it back from the store.

    Args:
        decided: looks up in the store what was decided of a transaction. A day's decisions are
            too many to be kept in memory, and nearly none of them is asked for again.

    Attributes:
        prepared: transactions that wait for their coordinator's decision, or for the record that
            does what it says to be begun.
        decisions: what was decided in this term and not every shard has heard yet.
    """

    def __init__(self, decided: Callable[[str], bool | None]) -> None:
        self.prepared: dict[str, Prepared] = {}
        self.decisions: dict[str, bool] = {}
        self._decided = decided
        self._locks: dict[bytes, str] = {}
        # Prepared in an earlier term: the client may have the answer, and the rows not show it.
        self._doubtful: set[str] = set()
        self._tokens: dict[str, Token] = {}
        self._fed: dict[tuple[str, int], Fed] = {}
        self._waiting: list[asyncio.Future[None]] = []

    def load(self, entries: Iterable[Entry]) -> None:
        """Start anew from the entries that the store still has."""
        self.prepared.clear()
        self.decisions.clear()
        self._locks.clear()
        self._tokens.clear()
        self._fed.clear()
        self._doubtful.clear()
        for entry in entries:
            match entry["phase"]:
                case "prepare":
                    self.prepare(read_prepared(entry))
                    self._doubtful.add(entry["id"])
                case "token":
                    self._tokens[entry["token"]] = Token(entry["digest"], entry["at"])
                case "view":
                    offset, number = entry["through"]
                    self.feed(entry["view"], entry["source"], Fed((offset, number), None))
        self._tell_released()

    @property
    def locking(self) -> bool:
        """Whether any row is locked."""
        return bool(self._locks)

    def locks(self, row_key: bytes) -> bool:
        """Whether a transaction holds the row."""
        return row_key in self._locks

    @property
    def doubtful(self) -> bool:
        """Whether an earlier term has left transactions that may have been answered."""
        return bool(self._doubtful)

    def doubts(self, row_key: bytes) -> bool:
        """Whether such a transaction holds the row: what it shows may be out of date."""
        return self._locks.get(row_key) in self._doubtful

    def decision(self, transaction: str) -> bool | None:
        """Whether a transaction happened, None where nothing was decided."""
        found = self.decisions.get(transaction)
        return self._decided(transaction) if found is None else found

    def prepare(self, prepared: Prepared) -> None:
        """Lock the rows of a transaction."""
        self.prepared[prepared.id] = prepared
        for row_key in prepared.locked:
            self._locks[row_key] = prepared.id

    def release(self, transaction: str) -> None:
        """Unlock the rows of a prepared transaction, whose end is on its way to the log."""
        prepared = self.prepared.pop(transaction)
        for row_key in prepared.locked:
            self._locks.pop(row_key, None)
        self._doubtful.discard(transaction)
        self._tell_released()

    async def released(self) -> None:
        """Return when a transaction has let go of its rows."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter

    def _tell_released(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def token(self, token: str, now_ms: int) -> Token | None:
        """What is known of a client token, None if it was not used in the last ten minutes."""
        found = self._tokens.get(token)
        return found if found is not None and found.used_ms > now_ms - TOKEN_MS else None

    def use_token(self, token: str, digest: str, now_ms: int) -> None:
        """Remember a client token, and forget those that are too old."""
        while self._tokens:
            oldest = next(iter(self._tokens))
            if self._tokens[oldest].used_ms > now_ms - TOKEN_MS:
                break
            del self._tokens[oldest]
        self._tokens.pop(token, None)
        self._tokens[token] = Token(digest, now_ms)

    def fed(self, view: str, source: int) -> Fed | None:
        """How far a view is fed from a source's shard here, None if not at all."""
        return self._fed.get((view, source))

    def feed(self, view: str, source: int, fed: Fed) -> None:
        """Note how far a view is fed."""
        self._fed[view, source] = fed


def prepare_entry(prepared: Prepared, now_ms: int) -> Entry:
    """The entry that locks a participant's rows."""
    return {
        "phase": "prepare",
        "id": prepared.id,
        "at": now_ms,
        "coordinator": prepared.coordinator,
        "changes": [change.kept_json() for change in prepared.changes],
        "locked": [row_key.hex() for row_key in prepared.locked],
    }


def read_prepared(entry: Entry) -> Prepared:
    """Read what `prepare_entry` made, after its way through JSON."""
    return Prepared(
        entry["id"],
        entry["coordinator"],
        tuple(change_from_json(change) for change in entry["changes"]),
        tuple(bytes.fromhex(row_key) for row_key in entry["locked"]),
    )


def decide_entry(transaction: str, now_ms: int, *, commit: bool) -> Entry:
    """The entry that makes a transaction happen, or never."""
    return {"phase": "decide", "id": transaction, "at": now_ms, "commit": commit}


def resolve_entry(transaction: str, now_ms: int, *, commit: bool) -> Entry:
    """The entry that ends a participant's part."""
    return {"phase": "resolve", "id": transaction, "at": now_ms, "commit": commit}


def token_entry(token: str, digest: str, now_ms: int) -> Entry:
    """The entry that remembers a client token."""
    return {"phase": "token", "token": token, "digest": digest, "at": now_ms}


def view_entry(view: str, source: int, through: Place, now_ms: int) -> Entry:
    """The entry that says how far a view is fed from a shard of its source.

    Args:
        view: id of the view's table.
        source: number of the shard.
        through: the last place in its log whose rows come with this commit, or came before it.
        now_ms: when, milliseconds since 1970.
    """
    return {"phase": "view", "view": view, "source": source, "through": through, "at": now_ms}
