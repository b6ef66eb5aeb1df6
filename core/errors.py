"""The errors that streamtable raises, and how DynamoDB names them on the wire.

`StreamtableError` is the root of everything raised on purpose. `ApiError` and its subclasses are
answers to a client: the gateway turns them into DynamoDB's JSON error body, so each carries the
service's own code, HTTP status and message. Source: the "Errors" section of each operation in the
DynamoDB API reference, and botocore's service model for the shapes of the extra members.
"""

from typing import Any, ClassVar, Final

__all__ = [
    "INVALID",
    "AccessDenied",
    "ApiError",
    "BackupInUse",
    "BackupNotFound",
    "ConditionalCheckFailed",
    "ContinuousBackupsUnavailable",
    "DuplicateItem",
    "ExpiredIterator",
    "IdempotentParameterMismatch",
    "InternalServerError",
    "ItemCollectionSizeLimitExceeded",
    "LimitExceeded",
    "NotYetVisible",
    "PolicyNotFound",
    "RequestLimitExceeded",
    "ResourceInUse",
    "ResourceNotFound",
    "SerializationError",
    "ServiceUnavailable",
    "StreamtableError",
    "TableAlreadyExists",
    "TableInUse",
    "TableNotFound",
    "ThrottlingError",
    "TransactionCanceled",
    "TransactionConflict",
    "TransactionInProgress",
    "TrimmedDataAccess",
    "UnknownOperation",
    "ValidationError",
]

INVALID: Final = "One or more parameter values were invalid: "
"""How the messages of most of DynamoDB's rules about tables, keys and values begin."""

_DYNAMODB = "com.amazonaws.dynamodb.v20120810#"
_CORAL = "com.amazon.coral.service#"
_STREAMTABLE = "com.streamtable#"


class StreamtableError(Exception):
    """The root of every error that streamtable raises on purpose."""


class ApiError(StreamtableError):
    """An answer to a client that says why its request was not carried out.

    Attributes:
        code: the shape name an SDK maps to an exception class, for example
            `ResourceNotFoundException`.
        namespace: what `__type` has before the code.
        status: the HTTP status code.
        message: the text for a person; an empty one is left out of the body.
        members: further members of the error's body, for example `Item`.
    """

    code: ClassVar[str] = "InternalServerError"
    namespace: ClassVar[str] = _DYNAMODB
    status: ClassVar[int] = 400

    def __init__(self, message: str = "", **members: Any) -> None:
        super().__init__(message)
        self.message = message
        self.members = members


class ValidationError(ApiError, ValueError):
    """The request breaks one of DynamoDB's rules (`ValidationException`)."""

    code = "ValidationException"
    namespace = "com.amazon.coral.validate#"


class SerializationError(ApiError, ValueError):
    """The body is not JSON, or has a JSON type where the model wants another."""

    code = "SerializationException"
    namespace = _CORAL


class UnknownOperation(ApiError, LookupError):
    """`X-Amz-Target` names no operation of the service."""

    code = "UnknownOperationException"
    namespace = _CORAL


class InternalServerError(ApiError):
    """The service failed; the outcome of a write is unknown. SDKs retry."""

    code = "InternalServerError"
    status = 500


class ServiceUnavailable(ApiError):
    """The shard has no serving owner right now, nothing was written. SDKs retry."""

    code = "ServiceUnavailable"
    namespace = _CORAL
    status = 503


class AccessDenied(ApiError, PermissionError):
    """The caller may not do this, or not to this resource."""

    code = "AccessDeniedException"
    namespace = _CORAL


class BackupInUse(ApiError):
    """The backup, or one of its table, is being made, removed or restored from."""

    code = "BackupInUseException"


class BackupNotFound(ApiError, LookupError):
    """There is no such backup."""

    code = "BackupNotFoundException"


class ConditionalCheckFailed(ApiError):
    """The condition was false. With `Item` where the request asked for the old image."""

    code = "ConditionalCheckFailedException"

    def __init__(self, item: dict[str, Any] | None = None) -> None:
        members = {} if item is None else {"Item": item}
        super().__init__("The conditional request failed", **members)


class ContinuousBackupsUnavailable(ApiError):
    """There can be no backups of the table."""

    code = "ContinuousBackupsUnavailableException"


class DuplicateItem(ApiError):
    """A PartiQL INSERT found an item with its key."""

    code = "DuplicateItemException"


class ExpiredIterator(ApiError):
    """A shard iterator was used later than 15 minutes after it was made."""

    code = "ExpiredIteratorException"


class IdempotentParameterMismatch(ApiError):
    """The client token was used before with other parameters."""

    code = "IdempotentParameterMismatchException"


class ItemCollectionSizeLimitExceeded(ApiError):
    """An item collection of a table with local indexes would pass 10 GB."""

    code = "ItemCollectionSizeLimitExceededException"


class LimitExceeded(ApiError):
    """A limit of the control plane was passed."""

    code = "LimitExceededException"


class NotYetVisible(ApiError, TimeoutError):
    """What a read does not show the writes that it names, and its time to wait is over.

    Nothing is wrong with the request; it can be sent again.
    """

    code = "NotYetVisible"
    namespace = _STREAMTABLE


class PolicyNotFound(ApiError, LookupError):
    """The resource has no policy."""

    code = "PolicyNotFoundException"


class RequestLimitExceeded(ApiError):
    """Throughput passed the account's quota."""

    code = "RequestLimitExceeded"


class ResourceInUse(ApiError):
    """The resource exists already, or is being changed."""

    code = "ResourceInUseException"


class ResourceNotFound(ApiError, LookupError):
    """The table, index or other resource does not exist, or is not ACTIVE yet."""

    code = "ResourceNotFoundException"


class TableAlreadyExists(ApiError):
    """A table of that name exists; what the operations on backups say instead of ResourceInUse."""

    code = "TableAlreadyExistsException"


class TableInUse(ApiError):
    """The table is being created or deleted; what the operations on backups say."""

    code = "TableInUseException"


class TableNotFound(ApiError, LookupError):
    """The table does not exist; what the operations on backups say instead of ResourceNotFound."""

    code = "TableNotFoundException"


class ThrottlingError(ApiError):
    """Too many requests; SDKs back off and retry."""

    code = "ThrottlingException"


class TransactionCanceled(ApiError):
    """A transaction was cancelled; `CancellationReasons` has one entry an action, in order."""

    code = "TransactionCanceledException"

    def __init__(self, reasons: list[dict[str, Any]]) -> None:
        codes = ", ".join(reason["Code"] for reason in reasons)
        super().__init__(
            "Transaction cancelled, please refer cancellation reasons for specific reasons "
            f"[{codes}]",
            CancellationReasons=reasons,
        )

    @property
    def reasons(self) -> list[dict[str, Any]]:
        """Why, one entry an action, in order."""
        reasons: list[dict[str, Any]] = self.members["CancellationReasons"]
        return reasons


class TransactionConflict(ApiError):
    """Another transaction holds the item."""

    code = "TransactionConflictException"


class TransactionInProgress(ApiError):
    """The transaction with this client token has not ended yet."""

    code = "TransactionInProgressException"


class TrimmedDataAccess(ApiError, LookupError):
    """A reader of a stream wants records that are no longer kept."""

    code = "TrimmedDataAccessException"
