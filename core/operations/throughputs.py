"""Billing mode and capacity settings: the rules that CreateTable and UpdateTable share."""

from typing import Any

from streamtable.core.documents import PAY_PER_REQUEST, Throughput, UnitLimits
from streamtable.core.errors import INVALID, ValidationError
from streamtable.core.limits import PROVISIONED_UNITS

__all__ = [
    "check_billing",
    "next_throughput",
    "parse_index_throughput",
    "parse_on_demand",
    "parse_throughput",
    "parse_warm",
]


# A day of decreases is a day of UTC.
_DAY_S = 24 * 3600


def check_billing(billing: str, throughput: dict[str, Any] | None) -> None:
    """Check that a ProvisionedThroughput is there where the billing mode wants one, and only there.

    Raises:
        ValidationError: both or neither were given.
    """
    if billing == PAY_PER_REQUEST and throughput is not None:
        raise ValidationError(
            f"{INVALID}Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when "
            "BillingMode is PAY_PER_REQUEST"
        )
    if billing != PAY_PER_REQUEST and throughput is None:
        raise ValidationError(
            f"{INVALID}ReadCapacityUnits and WriteCapacityUnits must both be specified when "
            "BillingMode is PROVISIONED"
        )


def parse_throughput(raw: dict[str, Any] | None, index: str | None = None) -> Throughput:
    """Read a ProvisionedThroughput; none gives zero units.

    Raises:
        ValidationError: a value is out of bounds.
    """
    if raw is None:
        return Throughput()
    for name in ("ReadCapacityUnits", "WriteCapacityUnits"):
        if raw[name] > PROVISIONED_UNITS:
            where = "" if index is None else f" for index {index}"
            raise ValidationError(f"Given value {raw[name]} for {name} is out of bounds{where}")
    return Throughput(read_units=raw["ReadCapacityUnits"], write_units=raw["WriteCapacityUnits"])


def parse_index_throughput(raw: dict[str, Any], billing: str) -> Throughput:
    """Read the ProvisionedThroughput of a global secondary index definition.

    Raises:
        ValidationError: the table's billing mode wants none, or wants one.
    """
    name = raw["IndexName"]
    throughput = raw.get("ProvisionedThroughput")
    if billing == PAY_PER_REQUEST and throughput is not None:
        raise ValidationError(
            f"{INVALID}ProvisionedThroughput should not be specified for index: {name} when "
            "BillingMode is PAY_PER_REQUEST"
        )
    if billing != PAY_PER_REQUEST and throughput is None:
        raise ValidationError(f"{INVALID}ProvisionedThroughput is not specified for index: {name}")
    return parse_throughput(throughput, name)


def parse_on_demand(
    raw: dict[str, Any] | None, billing: str, current: UnitLimits | None = None
) -> UnitLimits | None:
    """Read an OnDemandThroughput; what it does not name stays as it is.

    Args:
        raw: the parameter, None if it is not there.
        billing: the table's billing mode.
        current: the maximums until now, None if there are none.

    Raises:
        ValidationError: the table is not on demand, or a maximum is neither -1 nor positive.
    """
    if raw is None:
        return current
    if billing != PAY_PER_REQUEST:
        raise ValidationError(
            f"{INVALID}OnDemandThroughput can only be specified when BillingMode is PAY_PER_REQUEST"
        )
    for name in ("MaxReadRequestUnits", "MaxWriteRequestUnits"):
        value = raw.get(name)
        if value is not None and value != -1 and value < 1:
            raise ValidationError(f"{INVALID}{name} must be -1 or at least 1, and is {value}")
    return _merged(raw.get("MaxReadRequestUnits"), raw.get("MaxWriteRequestUnits"), current)


def parse_warm(raw: dict[str, Any] | None, current: UnitLimits | None = None) -> UnitLimits | None:
    """Read a WarmThroughput; what it does not name stays as it is.

    Args:
        raw: the parameter, None if it is not there.
        current: what was asked for until now, None if nothing was.

    Raises:
        ValidationError: a value is not positive.
    """
    if raw is None:
        return current
    for name in ("ReadUnitsPerSecond", "WriteUnitsPerSecond"):
        value = raw.get(name)
        if value is not None and value < 1:
            raise ValidationError(f"{INVALID}{name} must be at least 1, and is {value}")
    return _merged(raw.get("ReadUnitsPerSecond"), raw.get("WriteUnitsPerSecond"), current)


def _merged(read: int | None, write: int | None, current: UnitLimits | None) -> UnitLimits:
    if current is not None:
        read = current.read_units if read is None else read
        write = current.write_units if write is None else write
    return UnitLimits(read_units=read, write_units=write)


def next_throughput(old: Throughput, new: Throughput, now: float) -> Throughput:
    """Return `new` with the history of `old` carried on: last increase, decreases of the day."""
    rises = new.read_units > old.read_units or new.write_units > old.write_units
    falls = new.read_units < old.read_units or new.write_units < old.write_units
    same_day = old.last_decrease is not None and old.last_decrease // _DAY_S == now // _DAY_S
    today = old.decreases_today if same_day else 0
    return new.model_copy(
        update={
            "last_increase": now if rises else old.last_increase,
            "last_decrease": now if falls else old.last_decrease,
            "decreases_today": today + falls,
        }
    )
