"""Functions that are called for the changes of tables."""

from streamtable.triggers.app import App, DuplicateTrigger, InvalidTrigger, Trigger
from streamtable.triggers.change import Change
from streamtable.triggers.handlers import InvalidHandler

__all__ = [
    "App",
    "Change",
    "DuplicateTrigger",
    "InvalidHandler",
    "InvalidTrigger",
    "Trigger",
]
