"""Functions that are called for the changes of tables."""

from streamtable.triggers.app import App
from streamtable.triggers.change import Change
from streamtable.triggers.checks import Check
from streamtable.triggers.errors import (
    DuplicateName,
    HandlerExited,
    InvalidAnswer,
    InvalidDeclaration,
    InvalidHandler,
    InvalidRecording,
    InvalidRow,
    Refused,
    StoreInUse,
    UnknownName,
)
from streamtable.triggers.local_store import LocalBatch, LocalStore
from streamtable.triggers.measures import Avg, Count, Distinct, Max, Min, Sum, Top
from streamtable.triggers.schedules import Schedule
from streamtable.triggers.searches import Search
from streamtable.triggers.testing import Replayer, TestApp
from streamtable.triggers.trigger import Trigger
from streamtable.triggers.views import Aggregate, Index, Join, View
from streamtable.triggers.window import Window

__all__ = [
    "Aggregate",
    "App",
    "Avg",
    "Change",
    "Check",
    "Count",
    "Distinct",
    "DuplicateName",
    "HandlerExited",
    "Index",
    "InvalidAnswer",
    "InvalidDeclaration",
    "InvalidHandler",
    "InvalidRecording",
    "InvalidRow",
    "Join",
    "LocalBatch",
    "LocalStore",
    "Max",
    "Min",
    "Refused",
    "Replayer",
    "Schedule",
    "Search",
    "StoreInUse",
    "Sum",
    "TestApp",
    "Top",
    "Trigger",
    "UnknownName",
    "View",
    "Window",
]
