"""Bodies are counted the same in whatever parts they arrive."""

import itertools
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caesura.server.body_scan import MOST_VALUES, SLICE_BYTES, BodyScan, slices
from caesura.server.errors import ApiError
from support.draws import examples

PIECES = ("\\", '"', "\\\\", '\\"', "\\u", "\\ud83d", "\\ude00", "\\uDBFF", "\\u00e9", "d800", "a")
PIECES += ("[", "]", "{", "}", ",", ":", "é", "天", "😀", " ")
UTF8 = st.lists(st.sampled_from(PIECES)).map("".join).map(str.encode)


def scanned(*parts: bytes, most_values: int | None = None) -> str:
    """What a scan says of a body in parts."""
    scan = BodyScan(most_values)
    try:
        for part in parts:
            scan.feed(part)
        scan.end()
    except ApiError as error:
        return f"refused: {error.detail}"
    return "Unicode" if scan.is_unicode else "no Unicode"


@settings(max_examples=examples(300), deadline=None)
@given(UTF8, st.lists(st.integers(0, 60)), st.integers(0, 4))
def test_how_a_body_is_cut_into_parts_changes_nothing(
    body: bytes, cuts: list[int], most: int
) -> None:
    edges = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    parts = [body[start:end] for start, end in itertools.pairwise(edges)]
    every_byte = [bytes([byte]) for byte in body]
    said = {scanned(*each, most_values=most)[:7] for each in ([body], parts, every_byte)}
    assert len(said) == 1  # if there are several reasons to refuse it, it may be another one


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(st.sampled_from(["\ud83d", "\ude00", "\\", '"', "u", "d", "8", "0", "😀", "x"])))
def test_a_half_of_a_character_is_found_wherever_a_reader_would_have_one(texts: list[str]) -> None:
    body = json.dumps({"".join(texts): ["".join(texts)]}).encode()
    read = next(iter(json.loads(body)))
    assert scanned(body) == ("Unicode" if _is_unicode(read) else "no Unicode")


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_other_encodings_are_refused_since_their_bytes_would_count(encoding: str) -> None:
    # In UTF-16 a letter may have the byte of a quotation mark: a reader sees lists behind it.
    assert "UTF-8" in scanned(('"∢' + "[" * 100).encode(encoding))


def test_halves_of_characters_in_bytes_are_refused() -> None:
    assert "UTF-8" in scanned(b'"' + "\ud800".encode("utf-8", "surrogatepass") + b'"')
    assert "UTF-8" in scanned(b'"\xe5\xa4')
    assert scanned(b'"\xe5', b'\xa4\xa9"') == "Unicode"


@pytest.mark.parametrize(
    "text",
    [
        r"\uD800",
        r"\udfff",
        r"\uDc00",
        r"\ud83d\\\\\ude00",
        r"\\\\\uDBFF",
        r"\ude00\ud83d",
        r"\ud83dx\ude00",
    ],
)
def test_halves_are_found_in_any_spelling(text: str) -> None:
    assert scanned(f'"{text}"'.encode()) == "no Unicode"


def test_it_is_refused_where_it_becomes_too_much() -> None:
    scan = BodyScan()
    scan.feed(b'{"a":[' + b"1," * (MOST_VALUES - 2))
    with pytest.raises(ApiError, match="values"):
        scan.feed(b"1,")


def test_lists_and_objects_have_a_number_of_their_own() -> None:
    most = 10 * MOST_VALUES
    assert scanned(b"[]" * MOST_VALUES, most_values=most) == "Unicode"
    assert "values" in scanned(b"[]" * MOST_VALUES + b"{}", most_values=most)
    assert "values" in scanned(b"{}" * MOST_VALUES + b"[]", most_values=most)


def test_texts_have_a_number_of_their_own() -> None:
    assert "values" in scanned(b'"",' * (2 * MOST_VALUES + 1), most_values=10 * MOST_VALUES)
    assert scanned(b'"",' * (2 * MOST_VALUES), most_values=10 * MOST_VALUES) == "Unicode"
    assert scanned(b"1," * (10 * MOST_VALUES), most_values=10 * MOST_VALUES) == "Unicode"


def test_what_closes_more_than_it_opens_is_not_json() -> None:
    assert "not JSON" in scanned(b"[1]]")
    assert "not JSON" in scanned(b"[1", b"]", b"]")
    assert scanned(b'["]]"]') == "Unicode"


def test_slices_are_the_body() -> None:
    body = random.Random(0).randbytes(3 * SLICE_BYTES + 5)
    assert b"".join(slices(body)) == body
    assert max(map(len, slices(body))) == SLICE_BYTES
    assert slices(b"") == []


@pytest.mark.parametrize(
    "text", ["\\ud83d\\ude00", "x\\\\\\uDBFF\\uDFFF\\\\", "\\u00e9\\ud83d\\ude00"]
)
def test_a_character_of_two_halves_may_be_cut_anywhere(text: str) -> None:
    body = json.dumps(json.loads(f'"{text}"')).encode()
    for first, second in itertools.combinations_with_replacement(range(len(body)), 2):
        assert scanned(body[:first], body[first:second], body[second:]) == "Unicode"
    half = body.replace(rb"\ude00", b"").replace(rb"\udfff", b"")
    for cut in range(len(half)):
        assert scanned(half[:cut], half[cut:]) == "no Unicode"
