from hypothesis import given
from hypothesis import strategies as st

from caesura.tools.result_text import clean_text, cut_text

ANYTHING = st.text(st.characters())


@given(ANYTHING)
def test_cleaned_text_can_be_encoded_and_has_no_nul(text: str) -> None:
    cleaned = clean_text(text + "\0\ud800")
    assert "\0" not in cleaned
    assert cleaned.encode().decode() == cleaned


@given(st.text(st.characters(codec="utf-8")), st.integers(256, 400))
def test_a_cut_text_keeps_the_limit_and_its_beginning(text: str, max_bytes: int) -> None:
    long = text + "é" * 200
    kept, is_cut = cut_text(long, max_bytes)
    assert len(kept.encode()) <= max_bytes
    assert is_cut == (len(long.encode()) > max_bytes)
    assert long.startswith(kept.rpartition("\n[The result was cut")[0] if is_cut else kept)
