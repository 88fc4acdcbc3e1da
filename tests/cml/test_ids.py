import pytest

from caesura.cml import ErrorKind, Limits
from caesura.cml.ids import CallIds


def kind(ids: CallIds, call_id: str) -> ErrorKind | None:
    error = ids.take(call_id)
    return error and error.kind


@pytest.mark.parametrize("call_id", ["a", "A", "z_9_", "a" * 32])
def test_an_id_is_a_letter_then_letters_digits_and_underscores(call_id: str) -> None:
    ids = CallIds(Limits())
    assert ids.take(call_id) is None
    assert kind(ids, call_id) is ErrorKind.DUPLICATE_ID


@pytest.mark.parametrize(
    ("call_id", "expected"),
    [
        ("", ErrorKind.MISSING_ID),
        ("a" * 33, ErrorKind.ID_TOO_LONG),
        ("_a", ErrorKind.MALFORMED_ID),
        ("a b", ErrorKind.MALFORMED_ID),
        ("ａ", ErrorKind.MALFORMED_ID),
        ("a٣", ErrorKind.MALFORMED_ID),
        ("user", ErrorKind.RESERVED_ID),
        ("error", ErrorKind.RESERVED_ID),
    ],
)
def test_others_are_refused_and_not_remembered(call_id: str, expected: ErrorKind) -> None:
    ids = CallIds(Limits(calls_per_session=1))
    assert kind(ids, call_id) is expected
    assert kind(ids, call_id) is expected
    assert ids.take("a1") is None


def test_ids_of_a_session_that_goes_on_elsewhere_count() -> None:
    ids = CallIds(Limits(calls_per_session=2), used=["a1"])
    assert kind(ids, "a1") is ErrorKind.DUPLICATE_ID
    assert ids.take("a2") is None
    assert kind(ids, "a3") is ErrorKind.TOO_MANY_FRAMES
