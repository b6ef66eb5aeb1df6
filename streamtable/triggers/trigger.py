"""A trigger: one registered function and how it is called."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal, TypeAlias

from streamtable.consumers.triggers.deliveries import Invoke
from streamtable.consumers.triggers.options import MAX_AGE_S, TriggerOptions
from streamtable.consumers.triggers.options import OnFailure as RuntimeOnFailure
from streamtable.core.change_filters.filter import ChangeFilter
from streamtable.triggers.errors import InvalidDeclaration
from streamtable.triggers.event_sources import DescribeTable
from streamtable.triggers.fingerprints import fingerprint
from streamtable.triggers.handlers import Handler, give_up
from streamtable.triggers.lambda_handlers import LambdaHandler
from streamtable.triggers.names import check_name, check_positive, check_table, is_number

__all__ = ["OnFailure", "Trigger", "check_options"]

OnFailure: TypeAlias = Literal["deadletter", "drop"] | Callable[..., Any]

_MAX_BATCH_SIZE: Final = 10_000
_MAX_BATCH_WINDOW_S: Final = 300
_MAX_PARALLELISM: Final = 100
_MAX_WINDOW_S: Final = 900
_ON_FAILURE: Final = ("deadletter", "drop")


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """One registered function. What its attributes mean is said at `App.trigger`.

    Attributes:
        name: unique in its app; the position in the log is kept under it.
        table: name of the table whose changes it takes.
        events: the kinds of change it takes, of INSERT, MODIFY and REMOVE.
        handler: calls the function.
        start: where it begins when it is registered, a text that `core.starts` reads.
        was: the name that it had before.
    """

    name: str
    table: str
    events: frozenset[str]
    handler: Handler | LambdaHandler = field(compare=False)
    where: ChangeFilter | None = None
    batch_size: int = 1
    batch_window_s: float = 0.0
    retries: int | None = None
    max_age_s: float = MAX_AGE_S
    on_failure: OnFailure = "deadletter"
    start: str = "TRIM_HORIZON"
    parallelism: int = 1
    timeout_s: float | None = None
    bisect: bool = True
    tumbling_window_s: float | None = None
    was: str | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """The tables that it follows."""
        return (self.table,)

    def options(self) -> TriggerOptions:
        """Return how the trigger wants its changes, for the runtime."""
        on_failure: RuntimeOnFailure = "deadletter"
        if isinstance(self.on_failure, str):
            on_failure = self.on_failure
        else:
            on_failure = partial(give_up, self.on_failure, self.handler.item)
        return TriggerOptions(
            table=self.table,
            events=self.events,
            where=self.where,
            batch_size=self.batch_size,
            batch_window_s=self.batch_window_s,
            retries=self.retries,
            max_age_s=self.max_age_s,
            parallelism=self.parallelism,
            bisect=self.bisect,
            tumbling_window_s=self.tumbling_window_s,
            on_failure=on_failure,
        )

    def invoke(self, describe: DescribeTable) -> Invoke:
        """Return what the runtime calls with batches.

        Args:
            describe: returns the `Table` of a DescribeTable answer; a Lambda function's events
                name the table's stream.
        """
        return self.handler.bind(describe)

    def definition(self) -> dict[str, Any]:
        """Return what the app declared, as JSON.

        `fingerprint` is another one when what the trigger takes is: its table, `on`, `where` or
        the window. `start` counts at the registration only.
        """
        taken = {
            "kind": "trigger",
            "table": self.table,
            "on": sorted(self.events),
            "where": None if self.where is None else self.where.to_json(),
            "tumbling_window_s": self.tumbling_window_s,
        }
        return {
            **taken,
            "batch_size": self.batch_size,
            "batch_window_s": self.batch_window_s,
            "retries": self.retries,
            "max_age_s": self.max_age_s,
            "on_failure": self.on_failure if isinstance(self.on_failure, str) else "function",
            "parallelism": self.parallelism,
            "timeout_s": self.timeout_s,
            "bisect": self.bisect,
            "fingerprint": fingerprint(taken),
        }


def check_options(trigger: Trigger) -> None:
    """Check what a trigger is to be called with.

    Raises:
        InvalidDeclaration: an option is out of its range, or two don't go together.
    """
    check_name("a trigger", trigger.name)
    if trigger.was is not None:
        check_name("a trigger", trigger.was)
    check_table(trigger.table)
    check_positive(timeout_s=trigger.timeout_s, max_age_s=trigger.max_age_s)
    _check_whole("batch_size", trigger.batch_size, 1, _MAX_BATCH_SIZE)
    _check_range("batch_window_s", trigger.batch_window_s, 0, _MAX_BATCH_WINDOW_S)
    _check_whole("parallelism", trigger.parallelism, 1, _MAX_PARALLELISM)
    if trigger.retries is not None:
        _check_whole("retries", trigger.retries, 0, None)
    if trigger.max_age_s > MAX_AGE_S:
        raise InvalidDeclaration(
            f"max_age_s={trigger.max_age_s!r} must be at most {MAX_AGE_S:g} (23 hours): the log "
            "keeps a change for a day"
        )
    if not callable(trigger.on_failure) and trigger.on_failure not in _ON_FAILURE:
        raise InvalidDeclaration(
            f'on_failure={trigger.on_failure!r} is "deadletter", "drop" or a function'
        )
    if trigger.tumbling_window_s is None:
        return
    check_positive(tumbling_window_s=trigger.tumbling_window_s)
    _check_range("tumbling_window_s", trigger.tumbling_window_s, 0, _MAX_WINDOW_S)
    if trigger.parallelism != 1:
        raise InvalidDeclaration(
            "tumbling_window_s goes with parallelism=1: a window's state passes from one batch "
            "of the shard to the next"
        )


def _check_whole(name: str, value: int, least: int, most: int | None) -> None:
    if not isinstance(value, int):
        raise InvalidDeclaration(f"{name}={value!r} must be a whole number")
    _check_range(name, value, least, most)


def _check_range(name: str, value: float, least: float, most: float | None) -> None:
    if not is_number(value) or value < least or (most is not None and value > most):
        limit = f"at least {least}" if most is None else f"{least} to {most}"
        raise InvalidDeclaration(f"{name}={value!r} must be {limit}")
