"""CreateBackup, DescribeBackup, ListBackups, DeleteBackup and RestoreTableFromBackup."""

import time
import uuid
from typing import Any

from streamtable.consumers.backups.manifests import BackupNames, DamagedBackup, Manifest
from streamtable.consumers.checkpoints.objects import Objects, StorageUnavailable
from streamtable.core.backups import BackupDocument
from streamtable.core.compatibility import check_available
from streamtable.core.context import Handler, RequestContext
from streamtable.core.descriptions import describe_table
from streamtable.core.errors import (
    BackupNotFound,
    ContinuousBackupsUnavailable,
    InternalServerError,
    ResourceInUse,
    ResourceNotFound,
    TableAlreadyExists,
    TableNotFound,
    ValidationError,
)
from streamtable.core.operations.backups import (
    describe_backup,
    describe_details,
    find_backup,
    list_backups,
    plan_backup,
    plan_removal,
)
from streamtable.core.operations.restores import check_restorable, plan_restore
from streamtable.operations.lookup import find_changed
from streamtable.streams.catalog import Catalog

__all__ = ["backup_handlers"]

_NO_PLACE = (
    "this node has no place for backups: it is --checkpoints none. Name a folder or a bucket with "
    "--checkpoints"
)


def backup_handlers(catalog: Catalog, objects: Objects | None) -> dict[str, Handler]:
    """Return the handlers of the operations on backups.

    They change the catalog; who looks after the backups follows it.

    Args:
        catalog: the region's tables and backups.
        objects: where backups are kept; None: nowhere.
    """

    def find(body: dict[str, Any]) -> BackupDocument:
        return find_backup(body["BackupArn"], catalog.backups())

    async def create(body: dict[str, Any], _context: RequestContext) -> dict[str, Any]:
        try:
            table = find_changed(catalog, body["TableName"])
        except ResourceNotFound:
            raise TableNotFound(f"Table not found: {body['TableName']}") from None
        if objects is None:
            raise ContinuousBackupsUnavailable(
                f"Backups have not yet been enabled for this table: {_NO_PLACE}"
            )
        backup = plan_backup(
            body,
            table.document,
            catalog.backups(),
            now=time.time(),
            chance=uuid.uuid4().hex[:8],
        )
        await catalog.put_backup(backup)
        return {"BackupDetails": describe_details(backup)}

    async def describe(body: dict[str, Any], _context: RequestContext) -> dict[str, Any]:
        return {"BackupDescription": describe_backup(find(body))}

    async def list_all(body: dict[str, Any], _context: RequestContext) -> dict[str, Any]:
        return list_backups(body, catalog.backups())

    async def delete(body: dict[str, Any], _context: RequestContext) -> dict[str, Any]:
        backup = find(body)
        if objects is None:
            raise ValidationError(f"The backup can't be deleted: {_NO_PLACE}")
        removed, described = plan_removal(backup, (t.document for t in catalog.tables()))
        await catalog.put_backup(removed)
        return {"BackupDescription": described}

    async def restore(body: dict[str, Any], _context: RequestContext) -> dict[str, Any]:
        check_available("RestoreTableFromBackup", body)
        name = body["TargetTableName"]
        backup = find(body)
        document = plan_restore(body, backup, now=time.time(), new_id=_new_id)
        check_restorable(backup, name, (t.document for t in catalog.tables()))
        await _check_there(backup, objects)
        # Others may have done something meanwhile; from here on nothing is awaited.
        check_restorable(find(body), name, (t.document for t in catalog.tables()))
        try:
            await catalog.create(document)
        except ResourceInUse as error:
            raise TableAlreadyExists(error.message) from None
        return {"TableDescription": describe_table(document)}

    return {
        "CreateBackup": create,
        "DescribeBackup": describe,
        "ListBackups": list_all,
        "DeleteBackup": delete,
        "RestoreTableFromBackup": restore,
    }


async def _check_there(backup: BackupDocument, objects: Objects | None) -> None:
    """Check that all of a backup is in object storage; what is in it is read later.

    Raises:
        BackupNotFound: something is missing, or not what it was.
        InternalServerError: the object storage does not answer.
        ValidationError: there is no object storage.
    """
    if objects is None:
        raise ValidationError(f"The backup can't be read: {_NO_PLACE}")
    names = BackupNames(backup.table.region, backup.id)
    try:
        manifest = await Manifest.read(objects, names)
        await manifest.check_parts(objects, names)
    except DamagedBackup as error:
        raise BackupNotFound(f"Backup is damaged: {backup.arn}: {error}") from error
    except StorageUnavailable as error:
        raise InternalServerError(str(error)) from error


def _new_id() -> str:
    return str(uuid.uuid4())
