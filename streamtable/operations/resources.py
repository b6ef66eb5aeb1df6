"""Settings that hang on a table's ARN: tags and resource policies."""

import uuid
from typing import Any

from streamtable.core.context import Handler, RequestContext
from streamtable.core.operations import policies, tags
from streamtable.core.tables import Table
from streamtable.settings import NodeSettings
from streamtable.streams.catalog import Catalog

__all__ = ["resource_handlers"]


def resource_handlers(catalog: Catalog, settings: NodeSettings) -> dict[str, Handler]:
    """Return the handlers of the operations on tags and resource policies."""
    ours = f"arn:aws:dynamodb:{settings.region}:{settings.account}:table/"

    def find(arn: str) -> Table | None:
        """Return the table of the ARN of a table, of an index or of a stream."""
        return next(
            (t for t in catalog.tables() if arn == t.arn or arn.startswith(f"{t.arn}/")), None
        )

    def tagged(body: dict[str, Any], operation: str) -> Table:
        return tags.check_table(body["ResourceArn"], find, operation=operation, ours=ours)

    async def tag(body: dict[str, Any], _context: RequestContext) -> dict[str, Any]:
        table = tagged(body, "TagResource")
        await catalog.update(tags.tag(table.document, body["Tags"]))
        return {}

    async def untag(body: dict[str, Any], _context: RequestContext) -> dict[str, Any]:
        table = tagged(body, "UntagResource")
        await catalog.update(tags.untag(table.document, body["TagKeys"]))
        return {}

    async def list_tags(body: dict[str, Any], _context: RequestContext) -> dict[str, Any]:
        table = tagged(body, "ListTagsOfResource")
        return tags.list_tags(table.document, body.get("NextToken"))

    async def get_policy(body: dict[str, Any], _context: RequestContext) -> dict[str, Any]:
        table = policies.check_table(body["ResourceArn"], find)
        return policies.get_policy(table.document, body["ResourceArn"])

    async def put_policy(body: dict[str, Any], _context: RequestContext) -> dict[str, Any]:
        table = policies.check_table(body["ResourceArn"], find)
        revision = str(uuid.uuid4().int)[:13]
        document, kept = policies.put_policy(table.document, body, revision)
        if document is not table.document:
            await catalog.update(document)
        return {"RevisionId": kept}

    async def delete_policy(body: dict[str, Any], _context: RequestContext) -> dict[str, Any]:
        table = policies.check_table(body["ResourceArn"], find)
        document, revision = policies.delete_policy(table.document, body)
        if revision is None:
            return {}
        await catalog.update(document)
        return {"RevisionId": revision}

    return {
        "TagResource": tag,
        "UntagResource": untag,
        "ListTagsOfResource": list_tags,
        "GetResourcePolicy": get_policy,
        "PutResourcePolicy": put_policy,
        "DeleteResourcePolicy": delete_policy,
    }
