"""What a search index is, as the worker runs it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from streamtable.consumers.search.documents import MakeDocument

__all__ = ["GC_DELETES", "SearchSpec"]

GC_DELETES: Final = "1h"
"""How long Elasticsearch remembers the version of what was deleted, unless an app says else."""


@dataclass(frozen=True, slots=True)
class SearchSpec:
    """A search index of an app.

    Attributes:
        app: the app's name.
        name: the search index's own, unique in the app.
        table: name of the table whose items are in it.
        index: name of the alias in Elasticsearch; the indexes behind it are `{index}-000001`
            and so on.
        mapping: Elasticsearch's `mappings`; None leaves them to its own templates and to what
            comes first.
        settings: Elasticsearch's index settings.
        make: makes the document of an item; without it, it is the item.
        fingerprint: changes with what only a rebuild brings into the whole index: the settings,
            and the code that makes documents.
    """

    app: str
    name: str
    table: str
    index: str
    mapping: Mapping[str, Any] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    make: MakeDocument | None = None
    fingerprint: str = ""

    @property
    def key(self) -> str:
        """What users call it: `APP/NAME`."""
        return f"{self.app}/{self.name}"
