from streamtable.core.expressions.reserved import RESERVED_WORDS, is_reserved


def test_there_are_as_many_as_dynamodb_has():
    assert len(RESERVED_WORDS) == 573


def test_case_does_not_matter():
    assert is_reserved("Name")
    assert is_reserved("TTL")
    assert not is_reserved("names_")
    assert not is_reserved("pk")
