import gzip
import json
from importlib import resources

from streamtable.core import limits


def test_name_limits_are_those_of_the_service_model():
    packaged = resources.files("botocore") / "data/dynamodb/2012-08-10/service-2.json.gz"
    shapes = json.loads(gzip.decompress(packaged.read_bytes()))["shapes"]
    assert shapes["AttributeName"]["max"] == limits.ATTRIBUTE_NAME_BYTES
    assert shapes["KeySchemaAttributeName"]["max"] == limits.KEY_ATTRIBUTE_NAME_BYTES
