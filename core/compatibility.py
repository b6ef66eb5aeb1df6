"""What of DynamoDB's API is not carried out as DynamoDB does, and why.

Everything that is not named here is supported. `docs/compatibility.md` is made from this module and
from the service models of botocore, and a test holds this module against the code: an operation
that is not served, or a parameter that nothing reads, is named here.
"""

from collections.abc import Mapping
from typing import Any, Final

from streamtable.core.errors import ValidationError

__all__ = ["NOT_SERVED", "REFUSED", "REMARKS", "WITHOUT_EFFECT", "check_available"]

_RECOVERY: Final = "there are backups on demand, but no point-in-time recovery"
_GLOBAL: Final = "global tables come with several regions"
_FILES: Final = "import, export and bulk loads come with object storage"
_VECTORS: Final = "there are no vector indexes"

NOT_SERVED: Final[Mapping[str, str]] = {
    "CancelBulkOperation": _FILES,
    "CreateGlobalTable": _GLOBAL,
    "DescribeBulkOperation": _FILES,
    "DescribeExport": _FILES,
    "DescribeGlobalTable": _GLOBAL,
    "DescribeGlobalTableSettings": _GLOBAL,
    "DescribeImport": _FILES,
    "DescribeTableReplicaAutoScaling": _GLOBAL,
    "ExportTableToPointInTime": _FILES,
    "ImportTable": _FILES,
    "ListBulkOperations": _FILES,
    "ListExports": _FILES,
    "ListGlobalTables": _GLOBAL,
    "ListImports": _FILES,
    "RestoreTableToPointInTime": _RECOVERY,
    "SearchVectors": _VECTORS,
    "StartBulkPutItems": _FILES,
    "UpdateContinuousBackups": _RECOVERY,
    "UpdateGlobalTable": _GLOBAL,
    "UpdateGlobalTableSettings": _GLOBAL,
    "UpdateTableReplicaAutoScaling": _GLOBAL,
}
"""Operations that are answered with UnknownOperationException -> why."""

REMARKS: Final[Mapping[str, str]] = {
    "CreateBackup": "into the place of `--checkpoints`; one that can't be made ends as DELETED",
    "DescribeContinuousBackups": "point-in-time recovery is always DISABLED",
    "DescribeContributorInsights": "the list of rules is always empty",
    "DescribeEndpoints": "the one endpoint that there is",
    "DescribeLimits": "the quotas of a new AWS account, whatever this machine can do",
    "EnableKinesisStreamingDestination": "copies to the Kafka topic `{region}.table.{name}`; the "
    "ARN is kept as the destination's name",
    "RestoreTableFromBackup": "a table that can't be restored is removed again",
    "UpdateTimeToLive": "holds at once, and may be changed again at once",
}
"""What operations that are served answer otherwise than DynamoDB does."""

REFUSED: Final[Mapping[str, Mapping[str, str]]] = {
    "CreateTable": {
        "GlobalTableSourceArn": _GLOBAL,
        "GlobalTableSettingsReplicationMode": _GLOBAL,
        "VectorIndexes": _VECTORS,
    },
    "RestoreTableFromBackup": {
        "VectorIndexOverride": _VECTORS,
    },
    "UpdateTable": {
        "ReplicaUpdates": _GLOBAL,
        "MultiRegionConsistency": _GLOBAL,
        "GlobalTableWitnessUpdates": _GLOBAL,
        "GlobalTableSettingsReplicationMode": _GLOBAL,
        "DisassociationProtectionEnabled": _GLOBAL,
        "VectorIndexUpdates": _VECTORS,
    },
}
"""Operation -> parameters that are answered with ValidationException -> why."""

_UNITS: Final = "kept and described, and the rules about it hold; nothing is throttled by it yet"
_WARM: Final = (
    "kept and described, as the larger of it and what the table has anyway; lowering it is no error"
)
_ENCRYPTION: Final = "kept and described; no key encrypts the table's data yet"
_CLASS: Final = "kept and described; there is one way of storing items"
_POLICY: Final = "kept, versioned and returned; nobody is refused by it yet"
_INSIGHTS: Final = "kept and described; there are no CloudWatch rules to collect"

WITHOUT_EFFECT: Final[Mapping[str, Mapping[str, str]]] = {
    "CreateTable": {
        "BillingMode": _UNITS,
        "GlobalSecondaryIndexes[].OnDemandThroughput": _UNITS,
        "GlobalSecondaryIndexes[].ProvisionedThroughput": _UNITS,
        "GlobalSecondaryIndexes[].WarmThroughput": _WARM,
        "OnDemandThroughput": _UNITS,
        "ProvisionedThroughput": _UNITS,
        "ResourcePolicy": _POLICY,
        "SSESpecification": _ENCRYPTION,
        "TableClass": _CLASS,
        "WarmThroughput": _WARM,
    },
    "DisableKinesisStreamingDestination": {
        "EnableKinesisStreamingConfiguration": "checked; there is nothing in it to disable",
    },
    "PutResourcePolicy": {
        "ConfirmRemoveSelfResourceAccess": "a policy refuses nobody, so nobody can lock "
        "themselves out",
        "Policy": _POLICY,
    },
    "RestoreTableFromBackup": {
        "BillingModeOverride": _UNITS,
        "GlobalSecondaryIndexOverride[].OnDemandThroughput": _UNITS,
        "GlobalSecondaryIndexOverride[].ProvisionedThroughput": _UNITS,
        "GlobalSecondaryIndexOverride[].WarmThroughput": _WARM,
        "OnDemandThroughputOverride": _UNITS,
        "ProvisionedThroughputOverride": _UNITS,
        "SSESpecificationOverride": _ENCRYPTION,
    },
    "UpdateContributorInsights": {
        "ContributorInsightsAction": _INSIGHTS,
        "ContributorInsightsMode": _INSIGHTS,
    },
    "UpdateTable": {
        "BillingMode": _UNITS,
        "GlobalSecondaryIndexUpdates[].Create.OnDemandThroughput": _UNITS,
        "GlobalSecondaryIndexUpdates[].Create.ProvisionedThroughput": _UNITS,
        "GlobalSecondaryIndexUpdates[].Create.WarmThroughput": _WARM,
        "GlobalSecondaryIndexUpdates[].Update": _UNITS,
        "OnDemandThroughput": _UNITS,
        "ProvisionedThroughput": _UNITS,
        "SSESpecification": _ENCRYPTION,
        "TableClass": _CLASS,
        "WarmThroughput": _WARM,
    },
}
"""Operation -> paths of parameters that are accepted and do less than in DynamoDB -> how."""


def check_available(operation: str, body: dict[str, Any]) -> None:
    """Refuse a request with a parameter that this version can't carry out.

    Raises:
        ValidationError: the request has one; it is named.
    """
    for name in REFUSED[operation]:
        if name in body:
            raise ValidationError(f"{name} is not available in this version of streamtable")
