import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.units import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("32MiB", 32 * 2**20),
        ("1GiB", 2**30),
        ("8GB", 8 * 10**9),
        ("1.5 GiB", 3 * 2**29),
        (" 2 tib ", 2 * 2**40),
        ("0.5kb", 500),
        ("100B", 100),
        ("4096", 4096),
        ("0", 0),
        (4096, 4096),
    ],
)
def test_sizes_as_people_write_them(text: str | int, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("8G", "not a unit"),
        ("8 gibibytes", "not a unit"),
        ("", "is not a size"),
        ("GiB", "is not a size"),
        ("-1GiB", "is not a size"),
        ("1,5GiB", "is not a size"),
        ("1.5", "no unit"),
        (-1, "negative"),
        (True, "is not a size"),
    ],
)
def test_what_is_no_size_is_refused_with_the_reason(text: str | int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_size(text)


def test_a_size_is_formatted_in_the_largest_unit_that_it_has() -> None:
    assert format_size(0) == "0 B"
    assert format_size(1023) == "1023 B"
    assert format_size(2**20) == "1 MiB"
    assert format_size(3 * 2**29) == "1.5 GiB"


@given(st.integers(0, 2**50))
def test_a_formatted_size_is_parsed_back(size_bytes: int) -> None:
    assert parse_size(format_size(size_bytes)) == pytest.approx(size_bytes, rel=0.005)


@given(st.integers(0, 2**60))
def test_plain_numbers_are_bytes(size_bytes: int) -> None:
    assert parse_size(str(size_bytes)) == parse_size(size_bytes) == size_bytes
