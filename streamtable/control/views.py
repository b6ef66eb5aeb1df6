"""The tables of views on a node: made, swapped and dropped as the workers that build them ask.

| page | |
|---|---|
| `GET /_streamtable/views` | every view: its generation, its sources, its rows, its state |
| `POST /_streamtable/views/create` | a table in which a generation is built, or a part of it |
| `POST /_streamtable/views/swap` | a generation is whole: clients read it from now on |
| `POST /_streamtable/views/drop` | a generation is given up, or the whole view |

Each of them can be repeated: what is there already is found, what is gone stays gone. A crash
leaves the old generation or the new one in force; what is left of the other is removed at the next
start, or as soon as the catalog answers.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from streamtable.consumers.indexes.settling import Settling
from streamtable.control.bodies import parse_body
from streamtable.core.documents import CREATING, DELETING, UPDATING, TableDocument, ViewDocument
from streamtable.core.errors import (
    ResourceInUse,
    ResourceNotFound,
    ServiceUnavailable,
    StreamtableError,
    ValidationError,
)
from streamtable.core.operations.update_table import check_changeable, check_unprotected
from streamtable.core.shapes import validate
from streamtable.core.tables import Table
from streamtable.core.views.aggregates import KEPT_KINDS
from streamtable.core.views.generations import (
    find_leftovers,
    plan_generation,
    plan_placeholder,
    plan_swap,
    plan_values,
)
from streamtable.operations.tables import Totals
from streamtable.settings import NodeSettings
from streamtable.streams.catalog import Catalog, ChangedMeanwhile

__all__ = ["Views"]

logger = logging.getLogger(__name__)

_APP: Final = r"^[A-Za-z0-9_.-]{1,255}$"
# With the number of a generation and the name of a part it is to fit into a table's name.
_VIEW: Final = r"^[A-Za-z0-9_.-]{3,200}$"
_WAIT_S: Final = 10.0
_RETRY_S: Final = 1.0
_ROUNDS: Final = 20
_PART_NAMES: Final = r"^[a-z]*$"
_SAME: Final = ("keys", "attributes")

ResultT = TypeVar("ResultT")


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    app: str = Field(pattern=_APP)
    name: str = Field(pattern=_VIEW)


class _Creation(_Body):
    """A table for a generation.

    Attributes:
        part: what the table is for; "" for the rows that clients read.
        table: a CreateTable request; its TableName counts for nothing.
    """

    generation: int = Field(ge=1)
    kind: Literal["view", "aggregate", "join"]
    sources: tuple[str, ...] = Field(min_length=1)
    part: str = Field(default="", pattern=_PART_NAMES)
    measures: dict[str, dict[str, Any]] = {}
    table: dict[str, Any]


class _Swap(_Body):
    generation: int


class _Drop(_Body):
    """A generation to be given up; None for the view with everything that belongs to it."""

    generation: int | None = None


class Views:
    """The pages, and the removal of what has no use any more.

    Args:
        catalog: the region's tables.
        settings: the node's.
        ends: returns by shard the offset of the last record of its log.
        settling: knows when the indexes have what was written.
        totals: counts the items of a table and its indexes, and their bytes.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        settings: NodeSettings,
        ends: Callable[[], Awaitable[Mapping[int, int]]],
        settling: Settling,
        totals: Totals,
    ) -> None:
        self._catalog = catalog
        self._settings = settings
        self._ends = ends
        self._settling = settling
        self._totals = totals
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()
        self._tidying: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Remove what has no use, now and whenever a view changes, until `stop`."""
        self._catalog.on_change(self._look)
        self._wake.set()
        self._tidying = asyncio.create_task(self._tidy())

    async def stop(self) -> None:
        """Stop removing; what is left is removed after the next start."""
        if self._tidying is not None:
            self._tidying.cancel()
            with suppress(asyncio.CancelledError):
                await self._tidying

    # Pages

    async def list(self, _query: Mapping[str, str]) -> dict[str, Any]:
        """Answer what views there are, by name."""
        tables = list(self._catalog.tables())
        building = {
            (table.view.name, table.view.app): table
            for table in tables
            if table.view is not None and table.document.hidden and not table.view.part
        }
        found = []
        for table in tables:
            view = table.view
            if view is None or table.document.hidden:
                continue
            following = building.get((view.name, view.app))
            if following is not None and following.id == table.id:
                following = None
            found.append(await self._describe(table, view, following))
        return {"views": found}

    async def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """Make a table in which a generation of a view is built, or find it; answer its document.

        The first one makes a table with the view's name, too, which stays CREATING until the swap.

        Raises:
            CatalogUnavailable: the outcome is unknown.
            ResourceInUse: the generation's table is there, and is not as it is asked for.
            ResourceNotFound: a source is not there.
            ValidationError: it can't be made so; the message says why.
        """
        asked = parse_body(_Creation, body)
        request = {**asked.table, "TableName": asked.name}
        validate("CreateTable", request)
        return await self._in_rounds(lambda: self._create(asked, request))

    async def swap(self, body: dict[str, Any]) -> dict[str, Any]:
        """Have clients read a generation from now on; answer its table's document.

        What was answered of its rows before is in its indexes then. The tables of the generation
        before are removed.

        Raises:
            CatalogUnavailable: the outcome is unknown.
            ResourceNotFound: there is no such view, or no table of that generation.
            ServiceUnavailable: its indexes do not have every row yet.
        """
        asked = parse_body(_Swap, body)
        await self._settle()
        answer = await self._in_rounds(lambda: self._swap(asked))
        await self._remove_leftovers()
        return answer

    async def drop(self, body: dict[str, Any]) -> dict[str, Any]:
        """Remove what a generation was built into, or a view; answer the names of its tables.

        Raises:
            CatalogUnavailable: the outcome is unknown.
            ValidationError: it is the generation that clients read, or no view of that app.
        """
        asked = parse_body(_Drop, body)
        return await self._in_rounds(lambda: self._drop(asked))

    # What they do

    async def _describe(
        self, table: Table, view: ViewDocument, following: Table | None
    ) -> dict[str, Any]:
        document = table.document
        if document.status == CREATING:
            state = "building"
        elif document.status == DELETING:
            state = "deleting"
        else:
            state = "active" if following is None else "rebuilding"
        rows, size_bytes = (await self._totals(table)).get(None, (0, 0))
        described: dict[str, Any] = {
            "app": view.app,
            "name": view.name,
            "kind": view.kind,
            "sources": list(view.sources),
            "generation": view.generation,
            "state": state,
            "table_id": table.id,
            "rows": rows,
            "size_bytes": size_bytes,
            "created": document.created,
            "building": None,
        }
        if following is not None and following.view is not None:
            rows, size_bytes = (await self._totals(following)).get(None, (0, 0))
            described["building"] = {
                "generation": following.view.generation,
                "table_id": following.id,
                "rows": rows,
                "size_bytes": size_bytes,
                "created": following.document.created,
            }
        return described

    async def _create(self, asked: _Creation, request: dict[str, Any]) -> dict[str, Any]:
        view = ViewDocument(
            app=asked.app,
            name=asked.name,
            kind=asked.kind,
            sources=asked.sources,
            generation=asked.generation,
            part=asked.part,
            measures=asked.measures,
        )
        current = self._current(view.app, view.name)
        self._check_sources(view)
        document = plan_generation(
            view,
            request,
            current,
            region=self._settings.region,
            account=self._settings.account,
            now=time.time(),
            new_id=_new_id,
        )
        # 1. What is there already.
        found = self._generation(view, current)
        if found is not None:
            if any(getattr(found, name) != getattr(document, name) for name in _SAME):
                raise ResourceInUse(
                    f"{found.name} is there, with another key than it is to have: give that "
                    "generation up, or build the next one"
                )
            return found.model_dump(mode="json")
        generation = 0 if current is None or current.view is None else current.view.generation
        if view.generation <= generation:
            raise ValidationError(
                f"generation {view.generation} of the view {view.key} can't be built any more: "
                f"clients read generation {generation}"
            )
        # 2. The view's name, so that clients see that it is being made.
        if current is None:
            if view.part:
                raise ResourceNotFound(f"Requested resource not found: the view {view.key}")
            await self._add(plan_placeholder(document, _new_id))
        elif current.status == DELETING:
            check_changeable(current)
        # 3. The values first: who finds the groups' table finds them too.
        kinds = {measure.get("kind") for measure in view.measures.values()}
        if not view.part and not kinds.isdisjoint(KEPT_KINDS):
            values_id = await self._create_values(document)
            view = _view_of(document).model_copy(update={"values_id": values_id})
            document = document.model_copy(update={"view": view})
        # 4. The table.
        await self._add(document)
        return document.model_dump(mode="json")

    async def _create_values(self, document: TableDocument) -> str:
        planned = plan_values(document, _new_id())
        found = self._table(planned.name)
        if found is not None:
            return found.id
        await self._add(planned)
        return planned.id

    async def _add(self, document: TableDocument) -> None:
        try:
            await self._catalog.create(document)
        except ResourceInUse:
            # Another node was asked for the same.
            raise ChangedMeanwhile(document.name) from None

    def _check_sources(self, view: ViewDocument) -> None:
        """Check that the tables are there from which the view's rows are to come.

        Raises:
            ResourceNotFound: one is not.
            ValidationError: one is made of the view's own rows.
        """
        for name in view.sources:
            source = self._table(name)
            if source is None or source.hidden:
                raise ResourceNotFound(
                    f"Requested resource not found: the view {view.key} follows from the table "
                    f"{name}, which does not exist"
                )
            if view.name in self._sources(name):
                raise ValidationError(
                    f"the view {view.key} can't follow from {name}, which follows from it"
                )

    def _sources(self, name: str) -> set[str]:
        """A table, and all those from which its rows come."""
        found, left = {name}, [name]
        while left:
            document = self._table(left.pop())
            if document is not None and document.view is not None:
                new = set(document.view.sources) - found
                found |= new
                left += new
        return found

    def _generation(
        self, view: ViewDocument, current: TableDocument | None
    ) -> TableDocument | None:
        """The table of a generation, if it is there."""
        found = self._table(view.built_as)
        if found is None and current is not None and not view.part:
            return current if _view_of(current).generation == view.generation else None
        return found

    async def _swap(self, asked: _Swap) -> dict[str, Any]:
        current = self._current(asked.app, asked.name)
        if current is None:
            raise ResourceNotFound(
                f"Requested resource not found: the view {asked.app}/{asked.name}"
            )
        if _view_of(current).generation == asked.generation:
            return current.model_dump(mode="json")
        try:
            built = self._catalog.table(f"{asked.name}~{asked.generation}")
        except ResourceNotFound:
            raise ResourceNotFound(
                f"Requested resource not found: generation {asked.generation} of the view "
                f"{asked.app}/{asked.name}"
            ) from None
        if current.status == UPDATING:
            raise ServiceUnavailable(f"The view {current.name} is being updated. Try again.")
        if current.status != CREATING:
            check_changeable(current)
        document = plan_swap(built.document, current, now=time.time(), new_id=_new_id)
        await self._catalog.rename(built, document)
        logger.info("clients read generation %d of the view %s now", asked.generation, asked.name)
        return document.model_dump(mode="json")

    async def _drop(self, asked: _Drop) -> dict[str, Any]:
        current = self._current(asked.app, asked.name)
        if current is not None and _view_of(current).generation == asked.generation:
            raise ValidationError(
                f"generation {asked.generation} of the view {asked.app}/{asked.name} is what "
                "clients read: drop the view, or build another one first"
            )
        if asked.generation is None and current is not None:
            check_unprotected(current)
        names = [
            table.name
            for table in self._catalog.tables()
            if table.view is not None
            and table.document.hidden
            and (table.view.app, table.view.name) == (asked.app, asked.name)
            and asked.generation in (None, table.view.generation)
        ]
        # The view first: what belongs to it is removed then, whatever happens.
        if asked.generation is None and current is not None:
            names.insert(0, current.name)
        for name in names:
            with suppress(ResourceNotFound):
                await self._catalog.delete(name)
        return {"dropped": names}

    def _current(self, app: str, name: str) -> TableDocument | None:
        """The table that a view has now, None where it has none.

        Raises:
            ValidationError: the name is taken by a table that is none, or by another app's view.
        """
        document = self._table(name)
        if document is None:
            return None
        if document.view is None:
            raise ValidationError(
                f"{name} is a table, so the view {app}/{name} can't have its name: delete the "
                "table, or give the view another name"
            )
        if document.view.app != app:
            raise ValidationError(
                f"{name} is a view of the app {document.view.app} already: {app} can't have one "
                "of that name"
            )
        return document

    def _table(self, name: str) -> TableDocument | None:
        try:
            return self._catalog.table(name).document
        except ResourceNotFound:
            return None

    async def _settle(self) -> None:
        """Wait until the shards have applied what was answered, and the indexes have their rows.

        Raises:
            ServiceUnavailable: they have not in time.
        """
        try:
            async with asyncio.timeout(_WAIT_S):
                await self._settling.settled(await self._ends())
        except TimeoutError:
            raise ServiceUnavailable("The tables are behind their log. Try again.") from None

    async def _in_rounds(self, act: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """Act, and look again where another change came first."""
        async with self._turn:
            for _ in range(_ROUNDS):
                with suppress(ChangedMeanwhile):
                    return await act()
            return await act()

    # What has no use any more

    def _look(self, before: Table | None, after: Table | None) -> None:
        if any(table is not None and table.view is not None for table in (before, after)):
            self._wake.set()

    async def _tidy(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._remove_leftovers()
            except StreamtableError as error:
                logger.info("tables of views stay for now: %s", error)
                self._wake.set()
                await asyncio.sleep(_RETRY_S)

    async def _remove_leftovers(self) -> None:
        async with self._turn:
            for left in find_leftovers(table.document for table in self._catalog.tables()):
                with suppress(ResourceNotFound, ChangedMeanwhile):
                    if left.how == "forget":
                        await self._catalog.forget_name(left.name)
                    else:
                        await self._catalog.delete(left.name)


def _view_of(document: TableDocument) -> ViewDocument:
    assert document.view is not None
    return document.view


def _new_id() -> str:
    return str(uuid.uuid4())
