"""What an application declares: functions that are registered by decorating them."""

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from streamtable.core.change_filters.parsing import Where, parse_filter
from streamtable.core.errors import ValidationError
from streamtable.triggers.checks import Check, make_check
from streamtable.triggers.errors import DuplicateName, InvalidDeclaration
from streamtable.triggers.handlers import Handler
from streamtable.triggers.lambda_handlers import LambdaHandler
from streamtable.triggers.measures import Measure
from streamtable.triggers.names import EVENTS, check_name, check_table, parse_events
from streamtable.triggers.schedules import Schedule, make_schedule
from streamtable.triggers.searches import Search, make_search
from streamtable.triggers.starts import Start, start_text
from streamtable.triggers.trigger import OnFailure, Trigger, check_options
from streamtable.triggers.views import (
    AnyView,
    Index,
    JoinKind,
    OnError,
    RowsTable,
    StreamView,
    make_aggregate,
    make_join,
    make_view,
)

if TYPE_CHECKING:
    from streamtable.triggers.testing import TestApp

__all__ = ["App"]

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class App:
    """What `streamtable worker` runs: triggers, views, searches, schedules and checks.

        app = App("shop")

        @app.trigger("users", on="INSERT")
        async def welcome(change: Change[User]) -> None: ...

    Every decorator returns the function unchanged, so that it can be called in a test.

    Args:
        name: positions are kept under it: under another name, everything in the app is new.

    Raises:
        InvalidDeclaration: the name is not made of 1 to 100 letters, digits, `_` and `-`.
    """

    def __init__(self, name: str) -> None:
        check_name("an app", name)
        self.name = name
        self._triggers: dict[str, Trigger] = {}
        self._views: dict[str, AnyView] = {}
        self._searches: dict[str, Search] = {}
        self._schedules: dict[str, Schedule] = {}
        self._checks: dict[str, Check] = {}

    @property
    def triggers(self) -> Mapping[str, Trigger]:
        """The triggers by name, in the order in which they were registered."""
        return MappingProxyType(self._triggers)

    @property
    def views(self) -> Mapping[str, AnyView]:
        """The views, aggregates and joins by name, in the order in which they were registered."""
        return MappingProxyType(self._views)

    @property
    def searches(self) -> Mapping[str, Search]:
        """The searches by name, in the order in which they were registered."""
        return MappingProxyType(self._searches)

    @property
    def schedules(self) -> Mapping[str, Schedule]:
        """The schedules by name, in the order in which they were registered."""
        return MappingProxyType(self._schedules)

    @property
    def checks(self) -> Mapping[str, Check]:
        """The checks by name, in the order in which they were registered."""
        return MappingProxyType(self._checks)

    def trigger(
        self,
        table: str,
        *,
        on: str | Iterable[str] = EVENTS,
        where: Where | None = None,
        batch_size: int | None = None,
        batch_window_s: float = 0.0,
        retries: int | None = None,
        max_age_s: float = 82_800,
        on_failure: OnFailure = "deadletter",
        start: Start = "TRIM_HORIZON",
        parallelism: int = 1,
        timeout_s: float | None = None,
        bisect: bool = True,
        tumbling_window_s: float | None = None,
        name: str | None = None,
        was: str | None = None,
    ) -> Callable[[FunctionT], FunctionT]:
        """Register the decorated function for the changes of a table.

        The annotation of its first parameter says what it takes: `Change[Model]` or `Change` one
        change a call, `list[Change[Model]]` a batch of them. It is called at least once for each
        change, and for the changes of one item in their order. A change is done when the function
        returns. When it raises, the change is tried again, and with it wait the later changes of
        the same item, but of no other.

        Args:
            table: the table's name; it may be created later.
            on: INSERT, MODIFY or REMOVE, or several of them; all of them unless told.
            where: which of those changes, for example `changed("status") & (new.total > 100)`
                from `streamtable.where`, or Lambda's FilterCriteria. What it leaves out costs no
                call.
            batch_size: the most changes of a call; 100 unless told, for a function that takes
                one change 1.
            batch_window_s: how long to wait for a batch to become full.
            retries: how often a failed change is tried again; None for as long as `max_age_s`.
            max_age_s: a change that has failed for so long is given up; 23 hours at most.
            on_failure: what becomes of a change that is given up: "deadletter" keeps it in the
                dead letters, "drop" forgets it; or a function that takes it and the error.
            start: where the trigger begins when it is registered, once: TRIM_HORIZON is the
                oldest change in the log, LATEST the next one, or a datetime or a position.
            parallelism: how many calls run at once for each shard, for different items.
            timeout_s: a call that takes longer has failed.
            bisect: a batch that failed as a whole is split to find what made it fail.
            tumbling_window_s: the function takes a `Window` as its second parameter, with the
                state of the changes of so many seconds.
            name: the trigger's name, the function's own unless told. The position in the log
                is kept under it: a function can be renamed when its trigger keeps its name.
            was: the name that the trigger had before; it goes on where that one was.

        Raises:
            DuplicateName: the app has something of that name.
            InvalidDeclaration: an argument is none, or two don't go together.
            InvalidHandler: the function does not take what the arguments say.
        """
        check_table(table)
        events = parse_events(on)
        chosen = _parse_where(where)
        begin = start_text(start)

        def register(function: FunctionT) -> FunctionT:
            handler = Handler(
                function, timeout_s=timeout_s, takes_window=tumbling_window_s is not None
            )
            self._add_trigger(
                Trigger(
                    name=_name_of(function, name),
                    table=table,
                    events=events,
                    handler=handler,
                    where=chosen,
                    batch_size=_batch_size(batch_size, handler),
                    batch_window_s=batch_window_s,
                    retries=retries,
                    max_age_s=max_age_s,
                    on_failure=on_failure,
                    start=begin,
                    parallelism=parallelism,
                    timeout_s=timeout_s,
                    bisect=bisect,
                    tumbling_window_s=tumbling_window_s,
                    was=was,
                )
            )
            return function

        return register

    def lambda_trigger(
        self,
        table: str,
        handler: Callable[..., Any] | None = None,
        *,
        on: str | Iterable[str] = EVENTS,
        where: Where | None = None,
        batch_size: int = 100,
        batch_window_s: float = 0.0,
        retries: int | None = None,
        max_age_s: float = 82_800,
        on_failure: OnFailure = "deadletter",
        start: Start = "TRIM_HORIZON",
        parallelism: int = 1,
        timeout_s: float = 900.0,
        bisect: bool = True,
        tumbling_window_s: float | None = None,
        report_batch_item_failures: bool = True,
        name: str | None = None,
        was: str | None = None,
    ) -> Callable[[FunctionT], FunctionT]:
        """Register a Lambda function for the changes of a table, as it is.

            app.lambda_trigger("orders", handler, batch_size=10)

            @app.lambda_trigger("orders")
            def handler(event, context): ...

        The function is called with the event of Lambda's integration with DynamoDB Streams. The
        records have the images that the view type of the table's stream says, both if it has no
        stream. A call that raises has failed, otherwise it is done; what the function returns
        counts where it has `batchItemFailures`: then the first record that it names and all
        after it come again. All other arguments are those of `trigger`.

        Args:
            table: the table's name; it may be created later.
            handler: the function; or decorate it.
            on: as for `trigger`.
            where: as for `trigger`; Lambda's FilterCriteria go here.
            batch_size: the most records of a call.
            batch_window_s: as for `trigger`.
            retries: as for `trigger`.
            max_age_s: as for `trigger`.
            on_failure: as for `trigger`.
            start: as for `trigger`.
            parallelism: as for `trigger`.
            timeout_s: a call that takes longer has failed; `context` tells how much is left.
            bisect: as for `trigger`.
            tumbling_window_s: the event has a window and its state; the state that the function
                returns comes again with the next call.
            report_batch_item_failures: False: what the function returns does not count.
            name: as for `trigger`.
            was: as for `trigger`.

        Raises:
            DuplicateName: the app has something of that name.
            InvalidDeclaration: an argument is none, or two don't go together.
            InvalidHandler: the function does not take an event and a context.
        """
        check_table(table)
        events = parse_events(on)
        chosen = _parse_where(where)
        begin = start_text(start)

        def register(function: FunctionT) -> FunctionT:
            self._add_trigger(
                Trigger(
                    name=_name_of(function, name),
                    table=table,
                    events=events,
                    handler=LambdaHandler(
                        function,
                        table,
                        timeout_s=timeout_s,
                        report_batch_item_failures=report_batch_item_failures,
                    ),
                    where=chosen,
                    batch_size=batch_size,
                    batch_window_s=batch_window_s,
                    retries=retries,
                    max_age_s=max_age_s,
                    on_failure=on_failure,
                    start=begin,
                    parallelism=parallelism,
                    timeout_s=timeout_s,
                    bisect=bisect,
                    tumbling_window_s=tumbling_window_s,
                    was=was,
                )
            )
            return function

        if handler is not None:
            register(handler)
        return register

    def view(
        self,
        name: str,
        *,
        source: str,
        key: str | Iterable[str],
        types: Mapping[str, str] | None = None,
        indexes: Iterable[Index] = (),
        stream: StreamView | None = "NEW_AND_OLD_IMAGES",
        on_error: OnError = "stop",
        was: str | None = None,
    ) -> Callable[[FunctionT], FunctionT]:
        """Register a table with the rows that the decorated function makes of another's items.

            @app.view("orders_by_status", source="orders", key=("status", "order_id"))
            def orders_by_status(order: Order) -> dict | None: ...

        The function takes an item, a dict or the model that its parameter is annotated with, and
        returns a row (a dict or a pydantic model), a list of rows, or None. It must return the
        same for the same item: rows that an item no longer makes are found by asking it about
        the item as it was before.

        Args:
            name: the view's and its table's name.
            source: the table whose items it takes; that may be a view too.
            key: the partition key of the rows, or the partition key and the sort key. No two
                items may make rows of the same key.
            types: S, N or B of key attributes, of the table and its indexes, that are no strings.
            indexes: global secondary indexes.
            stream: the view type of the table's stream; None for no stream.
            on_error: "stop": the view stops at an item for which the function fails; "deadletter":
                it goes on without rows of that item, and the change goes to the dead letters.
            was: the name that the view had before.

        Raises:
            DuplicateName: the app has something of that name.
            InvalidDeclaration: an argument is none.
            InvalidHandler: the function is async, or does not take one item.
        """
        table = RowsTable(
            key=key, types=types, indexes=indexes, stream=stream, on_error=on_error, was=was
        )

        def register(function: FunctionT) -> FunctionT:
            self._add_view(
                make_view(
                    name,
                    function,
                    source=source,
                    table=table,
                )
            )
            return function

        return register

    def aggregate(
        self,
        name: str,
        *,
        source: str,
        key: str | Iterable[str],
        measures: Mapping[str, Measure],
        types: Mapping[str, str] | None = None,
        indexes: Iterable[Index] = (),
        stream: StreamView | None = "NEW_AND_OLD_IMAGES",
        on_error: OnError = "stop",
        was: str | None = None,
    ) -> Callable[[FunctionT], FunctionT]:
        """Register a table with a row for each group of what the decorated function returns.

            @app.aggregate(
                "revenue_by_day",
                source="orders",
                key="day",
                measures={"orders": Count(), "revenue": Sum("total")},
            )
            def revenue_by_day(order: Order) -> dict: ...

        The function takes an item and returns what it contributes: a dict with the group's key
        and the values that the measures name; a list of them; or None. It must return the same
        for the same item. When an item changes or goes, what it had contributed is taken back.

        Args:
            name: the view's and its table's name.
            source: the table whose items it takes; that may be a view too.
            key: the group's key: partition key, or partition key and sort key.
            measures: by the name that it has in the row, what to say about each group.
            types: as for `view`; measures that are numbers need not be named.
            indexes: as for `view`.
            stream: as for `view`.
            on_error: as for `view`.
            was: as for `view`.

        Raises:
            DuplicateName: the app has something of that name.
            InvalidDeclaration: an argument is none.
            InvalidHandler: the function is async, or does not take one item.
        """
        table = RowsTable(
            key=key, types=types, indexes=indexes, stream=stream, on_error=on_error, was=was
        )

        def register(function: FunctionT) -> FunctionT:
            self._add_view(
                make_aggregate(
                    name,
                    function,
                    source=source,
                    measures=measures,
                    table=table,
                )
            )
            return function

        return register

    def join(
        self,
        name: str,
        *,
        left: str,
        right: str,
        on: tuple[str, str] | str,
        key: str | Iterable[str],
        kind: JoinKind = "inner",
        types: Mapping[str, str] | None = None,
        indexes: Iterable[Index] = (),
        stream: StreamView | None = "NEW_AND_OLD_IMAGES",
        on_error: OnError = "stop",
        was: str | None = None,
    ) -> Callable[[FunctionT], FunctionT]:
        """Register a table with the rows that the decorated function makes of two tables' items.

            @app.join(
                "orders_with_users",
                left="orders",
                right="users",
                on=("user_id", "id"),
                key=("order_id", "user_id"),
            )
            def orders_with_users(order: Order, user: User) -> dict: ...

        The function is called for each left item and each right item that have the same value in
        the attributes that `on` names, and returns a row or None. It must return the same for the
        same items, and rows of different keys for different pairs. One attribute of the key must
        be the value that the items are joined on, under one of the names in `on`; the join stops
        at a row that has it not.

        Args:
            name: the view's and its table's name.
            left: the one table.
            right: the other table.
            on: the attribute of `left` and the attribute of `right`; one name if it is the same.
            key: the key of the rows, as for `view`.
            kind: "inner", or "left": a left item that meets no right one makes a row too, the
                function is called with None as its second argument.
            types: as for `view`.
            indexes: as for `view`.
            stream: as for `view`.
            on_error: as for `view`.
            was: as for `view`.

        Raises:
            DuplicateName: the app has something of that name.
            InvalidDeclaration: an argument is none.
            InvalidHandler: the function is async, or does not take two items.
        """
        table = RowsTable(
            key=key, types=types, indexes=indexes, stream=stream, on_error=on_error, was=was
        )

        def register(function: FunctionT) -> FunctionT:
            self._add_view(
                make_join(
                    name,
                    function,
                    left=left,
                    right=right,
                    on=on,
                    join_kind=kind,
                    table=table,
                )
            )
            return function

        return register

    def search(
        self,
        name: str,
        *,
        table: str | None = None,
        index: str | None = None,
        mapping: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        transform: Callable[..., Any] | None = None,
        was: str | None = None,
    ) -> Callable[[FunctionT], FunctionT]:
        """Register an Elasticsearch index that follows a table.

        Alone it is enough: `app.search("products", index="products")`. As a decorator it has the
        function make the documents, which is the same as naming it as `transform`:

            @app.search("products", mapping={"properties": {"name": {"type": "text"}}})
            def product(item: Product) -> dict | None: ...

        Args:
            name: the search's name.
            table: the table, of the same name unless told.
            index: the index, of the same name unless told.
            mapping: the index's mapping.
            settings: the index's settings.
            transform: takes an item and returns its document, a dict or a model; None if it is
                to have none. It must return the same for the same item.
            was: the name that the search had before.

        Raises:
            DuplicateName: the app has something of that name.
            InvalidDeclaration: an argument is none.
            InvalidHandler: the function is async, or does not take one item.
        """

        def made(function: Callable[..., Any] | None) -> Search:
            return make_search(
                name,
                table=name if table is None else table,
                index=name if index is None else index,
                mapping=mapping,
                settings=settings,
                transform=function,
                was=was,
            )

        search = made(transform)
        self._check_free(name)
        self._searches[name] = search

        def register(function: FunctionT) -> FunctionT:
            if transform is not None:
                raise InvalidDeclaration(f"{name} has a transform already: don't decorate another")
            self._searches[name] = made(function)
            return function

        return register

    def every(
        self,
        interval: float | timedelta,
        *,
        timeout_s: float | None = None,
        name: str | None = None,
        was: str | None = None,
    ) -> Callable[[FunctionT], FunctionT]:
        """Register the decorated function to be called at fixed intervals.

        Of all the workers of the app one calls it. It is called once for each time, and again
        where a worker died in the call; a time at which no worker ran, or the call before had not
        ended, is left out.

        Args:
            interval: seconds, or a timedelta. The times are multiples of it since 1970 (UTC).
            timeout_s: a call that takes longer has failed.
            name: the schedule's name, the function's own unless told.
            was: the name that it had before; a time that it was called for under that name is
                not called for again, also while workers with the old code still run.

        Raises:
            DuplicateName: the app has something of that name.
            InvalidDeclaration: an argument is none.
            InvalidHandler: the function takes more than the time that it is called for.
        """

        def register(function: FunctionT) -> FunctionT:
            made = make_schedule(
                _name_of(function, name), function, every=interval, timeout_s=timeout_s, was=was
            )
            self._check_free(made.name)
            self._check_renamed({**self._schedules, made.name: made})
            self._schedules[made.name] = made
            return function

        return register

    def check(
        self, table: str, *, on: str | Iterable[str] = EVENTS, name: str | None = None
    ) -> Callable[[FunctionT], FunctionT]:
        """Register the decorated function to be asked before a write of a table is committed.

            @app.check("orders")
            def total_is_positive(old: Order | None, new: Order | None) -> None:
                if new is not None and new.total < 0:
                    raise Refused("an order's total is not negative")

        A check runs in the node, in the middle of the write, with the item locked: it must be
        quick, and neither wait nor have effects. When it raises `Refused`, nothing is written
        and the client is told its text; when it raises anything else, the write fails too.

        Args:
            table: the table's name.
            on: INSERT, MODIFY or REMOVE, or several of them; all of them unless told.
            name: the check's name, the function's own unless told.

        Raises:
            DuplicateName: the app has something of that name.
            InvalidDeclaration: an argument is none.
            InvalidHandler: the function is async, or does not take two items.
        """
        events = parse_events(on)

        def register(function: FunctionT) -> FunctionT:
            made = make_check(_name_of(function, name), function, table=table, events=events)
            self._check_free(made.name)
            self._checks[made.name] = made
            return function

        return register

    def test(
        self,
        *,
        keys: Mapping[str, str | Iterable[str]] | None = None,
        retries: int = 2,
    ) -> "TestApp":
        """Return the app in memory, for a test: with tables of its own, and without a node.

            assert app.test().put("users", {"id": "u1"}).calls("welcome")

        Args:
            keys: the key attributes of the tables by name, where they are not `id`.
            retries: how often a failed change is tried again, for triggers that don't say.
        """
        from streamtable.triggers.testing import TestApp  # noqa: PLC0415 - only tests pay for it

        return TestApp(self, keys=keys, retries=retries)

    def _add_trigger(self, trigger: Trigger) -> None:
        check_options(trigger)
        self._check_free(trigger.name)
        self._triggers[trigger.name] = trigger

    def _add_view(self, view: AnyView) -> None:
        self._check_free(view.name)
        self._views[view.name] = view

    @staticmethod
    def _check_renamed(schedules: Mapping[str, Schedule]) -> None:
        """Refuse a schedule that is said to have had the name of another one."""
        for schedule in schedules.values():
            if schedule.was in schedules:
                raise InvalidDeclaration(
                    f"the schedule {schedule.name!r} was {schedule.was!r}, says its declaration, "
                    f"but the app still has a {schedule.was!r}: remove was=, or the other one"
                )

    def _check_free(self, name: str) -> None:
        """Refuse a name that something of the app has."""
        kinds: dict[str, Mapping[str, object]] = {
            "trigger": self._triggers,
            "view": self._views,
            "search": self._searches,
            "schedule": self._schedules,
            "check": self._checks,
        }
        for kind, known in kinds.items():
            if name in known:
                raise DuplicateName(
                    f"the app {self.name} has a {kind} {name!r} already: give one of them "
                    'another name, name="..."'
                )


def _name_of(function: Callable[..., Any], name: str | None) -> str:
    if name is None:
        name = getattr(function, "__name__", None)
    if name is None:
        raise InvalidDeclaration(f'{function!r} has no name: give it one, name="..."')
    return name


def _batch_size(told: int | None, handler: Handler) -> int:
    if told is None:
        return 100 if handler.takes_batch else 1
    if told != 1 and not handler.takes_batch:
        raise InvalidDeclaration(
            f"batch_size={told}, but {handler.name} takes one change: let its first parameter be a "
            "list[Change]"
        )
    return told


def _parse_where(where: Where | None) -> Any:
    if where is None:
        return None
    try:
        return parse_filter(where)
    except ValidationError as error:
        raise InvalidDeclaration(f"where={where!r}: {error}") from error
