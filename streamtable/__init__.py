"""A self-hosted DynamoDB on a change log."""

from streamtable.triggers import (
    App,
    Avg,
    Change,
    Count,
    Distinct,
    Index,
    LocalStore,
    Max,
    Min,
    Refused,
    Replayer,
    Sum,
    TestApp,
    Top,
    Window,
)

__all__ = [
    "App",
    "Avg",
    "Change",
    "Count",
    "Distinct",
    "Index",
    "LocalStore",
    "Max",
    "Min",
    "Refused",
    "Replayer",
    "Sum",
    "TestApp",
    "Top",
    "Window",
]
