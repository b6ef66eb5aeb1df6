"""Declared views as `streamtable.consumers.views` runs them."""

from streamtable.consumers.views.specs import ViewSpec
from streamtable.triggers.views import Aggregate, AnyView, Join

__all__ = ["spec_of"]


def spec_of(app: str, view: AnyView) -> ViewSpec:
    """Return a declared view as the runner takes it."""
    definition = view.definition()
    return ViewSpec(
        app,
        view.name,
        definition["kind"],
        view.sources,
        view.keys,
        rows=None if isinstance(view, Join) else view.rows,
        pairs=view.pairs if isinstance(view, Join) else None,
        on=view.on if isinstance(view, Join) else None,
        join_kind=view.join_kind if isinstance(view, Join) else "inner",
        measures=view.measures if isinstance(view, Aggregate) else {},
        table=view.create_table(),
        fingerprint=definition["fingerprint"],
        code=definition["code"],
        on_error=view.on_error,
    )
