"""Makes docs/compatibility.md: `python -m tests.support.compatibility`, or `make docs`.

From botocore's service models, the operations that a node serves, and
`streamtable.core.compatibility`.
"""

import asyncio
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import orjson

from streamtable.core.compatibility import NOT_SERVED, REFUSED, REMARKS, WITHOUT_EFFECT
from streamtable.core.shapes.model import Shape, operations
from streamtable.operations import Handler, handlers
from streamtable.operations.streams import stream_handlers
from streamtable.settings import NodeSettings
from streamtable.streams.catalog import Catalog
from streamtable.streams.layout import Layout
from streamtable.streams.shards import Shards

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"
SERVICES = {"dynamodb": "DynamoDB", "dynamodbstreams": "DynamoDB Streams"}

_HEAD = """\
<!-- Made by `make docs` from botocore's service models and core/compatibility.py: edit that. -->
<!-- model: {model} -->

# Compatibility

Every operation of DynamoDB's and DynamoDB Streams' service models, as botocore has them, and every
parameter of those that are served. Nothing is ignored in silence: what is not carried out is
refused, or stands here with its reason.

| | |
|---|---|
| yes | as DynamoDB does |
| kept | accepted, checked and described, but with less effect; the reason is beside it |
| refused | `ValidationException`: "(name) is not available in this version of streamtable" |
| not served | `UnknownOperationException`: "(name) is not served by this version of streamtable" |

A member that the model does not have is passed over, as DynamoDB does. Attribute values and
expressions are whole: every type, every function and every operator.

Around the operations: requests and answers may be gzipped, answers carry `x-amz-crc32` and a
request id, browsers are let in by CORS from any page. Signatures are read, not checked: any
credentials do. The endpoint may have a path, as behind a proxy.

## Clients

The tests play rounds with

- Python: boto3, aiobotocore, PynamoDB, Powertools for AWS Lambda; the AWS CLI;
- JavaScript: the SDK v3, ElectroDB, Dynamoose, dynamodb-admin;
- Java: the SDK v2 with its enhanced client, the Kinesis Client Library;
- Go: the SDK v2, guregu/dynamo.

These were tried by hand, once, with what their guides show: DynamoDB Toolbox, OneTable, Powertools'
idempotency, connect-dynamodb, and the SDK v2 with its data mapper for JavaScript; Powertools'
idempotency, Dyntastic, the DynamoDB Encryption Client, AWS SDK for pandas, Celery's result backend,
Flask-Session, LangGraph's checkpointer and python-dynamodb-lock; Java's SDK v1 with DynamoDBMapper
and its document API, and the DynamoDB Lock Client. Terraform's `aws_dynamodb_table` was not run;
each call that it makes for a table is served, except turning point-in-time recovery on.

## Where it differs

- Nothing is throttled, and no quota of an account holds: as many tables as you like.
- A change of a table holds at once; `--table-delay-ms` makes tables CREATING, UPDATING and DELETING
  for a while, as on AWS.
- ItemCount and sizes of tables and indexes are current, not some hours old.
- Region and account of an ARN that is given in place of a table's name are not looked at.
- Items expire within seconds. The shards of a stream split only at `streamtable reshard`.
- PartiQL: `IN` takes its operands one by one, `a IN [?, ?]` or `a IN (?, ?)`; a parameter that is a
  list is one operand, and `a IN ?` is refused. AWS's guide has it no other way, nor an example of
  it. A function or a sum among the columns of a SELECT, which the guide allows without an example,
  answers under its place, as PartiQL's specification has it: `SELECT id, size(tags)` as `id`, `_2`.

## Operations
"""


class Parameter(NamedTuple):
    """A member of a request, at any depth; `[]` stands for a list's elements, `{}` for a map's."""

    path: str
    name: str


def serving() -> dict[str, Handler]:
    """Return the handler of each operation that a node serves, on nothing behind it."""

    async def build() -> dict[str, Handler]:
        nothing = cast("Any", None)
        catalog = Catalog("", "", Layout(1), nothing)
        served = handlers(catalog, Shards(nothing, 0), nothing, NodeSettings())
        return {**served, **stream_handlers(catalog, nothing)}

    return asyncio.run(build())


def parameters(shape: Shape, path: str = "") -> Iterator[Parameter]:
    """Yield every member of a request's shape; attribute values are not looked into."""
    if shape.kind == "structure":
        for name, member in shape.members.items():
            whole = f"{path}.{name}" if path else name
            yield Parameter(whole, name)
            yield from parameters(member, whole)
    elif shape.member is not None:
        yield from parameters(shape.member, path + ("[]" if shape.kind == "list" else "{}"))


def covering(paths: Mapping[str, str], path: str) -> str | None:
    """Return the one of `paths` that is `path` or has it inside, None if there is none."""
    return next(
        (one for one in paths if path == one or path.startswith((one + ".", one + "["))), None
    )


def digest() -> str:
    """Return what tells one version of the models from another: names, in their order."""
    names = [
        [operation, *(path for path, _ in parameters(shape))]
        for service in SERVICES
        for operation, shape in sorted(operations(service).items())
    ]
    return hashlib.blake2b(orjson.dumps(names), digest_size=8).hexdigest()


def page() -> str:
    """Return the page's text."""
    served = serving()
    lines = [_HEAD.format(model=digest())]
    for service, title in SERVICES.items():
        lines += [f"**{title}**", "", "| operation | | |", "|---|---|---|"]
        for name in sorted(operations(service)):
            if name in served:
                notes = [REMARKS[name]] if name in REMARKS else []
                notes += ["some parameters are kept"] if name in WITHOUT_EFFECT else []
                notes += ["some parameters are refused"] if name in REFUSED else []
                lines.append(f"| [{name}](#{name.lower()}) | yes | {'; '.join(notes)} |")
            else:
                lines.append(f"| {name} | not served | {NOT_SERVED[name]} |")
        lines.append("")
    lines += ["## Parameters", "", "Members inside a parameter share its line.", ""]
    for service in SERVICES:
        for name, shape in sorted(operations(service).items()):
            if name in served:
                lines += _section(name, shape)
    return "\n".join(lines).rstrip() + "\n"


def _section(operation: str, shape: Shape) -> list[str]:
    lines = [f"### {operation}", ""]
    if not shape.members:
        return [*lines, "It has no parameters.", ""]
    lines += ["| parameter | | |", "|---|---|---|"]
    refused = REFUSED.get(operation, {})
    kept = WITHOUT_EFFECT.get(operation, {})
    rows: dict[str, tuple[str, str]] = {}
    inside: dict[str, list[str]] = {}
    for path, name in parameters(shape):
        top = path.partition(".")[0].rstrip("[]{}")
        if covering(refused, path):
            row = top, "refused", refused[top]
        else:
            special = covering(kept, path)
            row = (top, "yes", "") if special is None else (special, "kept", kept[special])
        if row[0] not in rows:
            rows[row[0]] = row[1:]
        if path != row[0] and name not in inside.setdefault(row[0], []):
            inside[row[0]].append(name)
    for path, (answer, why) in rows.items():
        members = ", ".join(f"`{name}`" for name in inside.get(path, []))
        note = ": ".join(part for part in (members, why) if part)
        lines.append(f"| `{path}` | {answer} | {note} |")
    return [*lines, ""]


if __name__ == "__main__":
    PAGE.write_text(page())
