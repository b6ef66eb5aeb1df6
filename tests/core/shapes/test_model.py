from streamtable.core.shapes import overrides
from streamtable.core.shapes.model import Shape, operations


def every_shape(shape: Shape) -> "list[Shape]":
    inner = [*shape.members.values(), shape.member, shape.key]
    return [shape, *(deeper for each in inner if each for deeper in every_shape(each))]


def all_shapes():
    return [
        shape
        for service in ("dynamodb", "dynamodbstreams")
        for operation in operations(service).values()
        for shape in every_shape(operation)
    ]


def test_each_override_still_has_something_to_override():
    found = {shape.name: shape for shape in all_shapes()}
    for (structure, member), name in overrides.MEMBERS.items():
        assert found[structure].members[member].name == name
    for (structure, member), (least, most) in overrides.LENGTHS.items():
        changed = found[structure].members[member]
        assert (changed.least, changed.most) == (least, most)
    for name, order in overrides.ENUM_ORDERS.items():
        assert set(order) == set(found[name].enum)
    patterns = {shape.pattern for shape in found.values()}
    assert set(overrides.PATTERNS) <= patterns


def test_attribute_values_stay_closed():
    for shape in all_shapes():
        if shape.name == "AttributeValue":
            assert shape.kind == "opaque"
            assert shape.members == {}
