"""Views and hidden tables, as clients see them."""

from streamtable.core.documents import TableDocument, ViewDocument


def hide(service, name):
    document = service.catalog.table(name).document
    return service.catalog.update(document.model_copy(update={"hidden": True}))


class TestHidden:
    async def test_a_hidden_table_is_not_listed_but_used(self, service):
        await service.table("notes")
        await service.table("users")
        await hide(service, "notes")
        assert (await service("ListTables"))["TableNames"] == ["users"]
        await service("PutItem", TableName="notes", Item={"id": {"S": "a"}})
        assert (await service("Scan", TableName="notes"))["Count"] == 1


async def test_a_views_document_survives_the_catalog(service):
    await service.table()
    document = service.catalog.table("users").document
    view = ViewDocument(
        app="shop",
        name="days",
        kind="aggregate",
        sources=("orders",),
        generation=2,
        values_id="x",
        measures={"best": {"kind": "top", "n": 3}},
    )
    document = document.model_copy(update={"view": view, "hidden": True})
    assert TableDocument.model_validate_json(document.model_dump_json()) == document
