"""What one caller can cost the others: work is bounded, and checked before it is done."""

import pytest

from foremask.service.api.parsing import MAX_ITEMS, parse_object
from foremask.service.service_errors import BadJson


@pytest.mark.parametrize("body", [b'{"a":[' + b"0," * MAX_ITEMS + b"0,0]}",
                                  b"{" + b",".join(b'"%d":0' % n for n in range(32_000)) + b"}"],
                         ids=["array", "object"])  # fmt: skip
def test_a_body_of_too_many_values_is_refused_before_it_is_decoded(body: bytes) -> None:
    """Decoding goes on in the event loop: a MiB of short values would hold it for 0.2 s."""
    with pytest.raises(BadJson) as refused:
        parse_object(body)
    assert refused.value.limit == MAX_ITEMS


def test_commas_in_strings_are_no_values() -> None:
    """Whatever is escaped in them."""
    assert parse_object(b'{"a": "\\\\", "b": "\\",' + b"," * 2 * MAX_ITEMS + b'"}')["a"] == "\\"


def test_the_second_of_two_equal_keys_is_found_by_looking_at_each_once() -> None:
    """At the end of as many others as a body may have."""
    keys = [b'"%d":0' % number for number in range(MAX_ITEMS)]
    with pytest.raises(BadJson, match="'19999' twice"):
        parse_object(b"{" + b",".join([*keys, keys[-1]]) + b"}")
