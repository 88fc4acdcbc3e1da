"""Calls in CML as clients with tools of their own see them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.tokenizers.hf import get_cached_tokenizer
from vllm.tool_parsers import ToolParserManager

from caesura.cml import Call, Marker, Text, Trap
from caesura.engine.model.cml_tool_parser import CmlToolParser, _Reader
from caesura.engine.protocol import CML_PARSER
from support.cml.effort import effort
from support.cml.streams import encode_text

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
CALLS = [
    Call("a", "look", {"x": {"y": "}]{", "z": [1, {}]}}),
    Call("b", "look", {"text": "[END][CALL]c[HEAD]"}),
    Call("c", "nothing"),
]


def tokenizer(*special: str) -> PreTrainedTokenizerFast:
    made = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
    made.add_special_tokens([AddedToken(text, special=True) for text in special])
    return PreTrainedTokenizerFast(tokenizer_object=made)


TRAINED = tokenizer(*(marker.value for marker in Marker))


def request(**fields) -> ChatCompletionRequest:
    return ChatCompletionRequest.model_validate(
        {"messages": [{"role": "user", "content": "?"}], "tools": [TOOL], **fields}
    )


def streamed(pieces: list[str]) -> tuple[str, list[tuple[str, str, str]]]:
    """Text and calls of a stream of pieces."""
    parser = CmlToolParser(TRAINED)
    deltas = [
        parser.extract_tool_calls_streaming("", piece, piece, [], [], [], request())
        for piece in pieces
    ]
    text, calls = "", []
    for delta in [*deltas, parser.finish_streaming()]:
        if delta is None:
            continue
        text += delta.content or ""
        for call in delta.tool_calls:
            assert call.index == len(calls)
            calls.append((call.id, call.function.name, call.function.arguments))
    assert parser.get_remaining_unstreamed_args() == "", "all arguments were streamed"
    return text, calls


def complete(output: str) -> tuple[str, list[tuple[str, str, str]]]:
    found = CmlToolParser(TRAINED).extract_tool_calls(output, request())
    calls = [(c.id, c.function.name, c.function.arguments) for c in found.tool_calls]
    return found.content or "", calls


def expected(calls: list[Call]) -> list[tuple[str, str, str]]:
    return [(c.id, c.name, json.dumps(c.arguments, ensure_ascii=False)) for c in calls]


@given(st.data())
def test_a_stream_gives_what_the_whole_output_gives_however_it_is_cut(data) -> None:
    text = Text("I look. [END] is no marker here. ")
    output = encode_text([text, *CALLS, Text(" Wait."), Trap()])
    ending = data.draw(st.sampled_from(["", "[END]", "[TRAP][END]"]), label="stop token's text")
    output = output.removesuffix(ending)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(output) - 1)), label="cuts"))
    pieces = [output[i:j] for i, j in zip([0, *cuts], [*cuts, len(output)], strict=True)]
    wanted = ("I look. [END] is no marker here.  Wait.", expected(CALLS))
    assert complete(output) == wanted
    assert streamed(pieces) == wanted


def test_a_call_counts_without_its_end_since_stop_tokens_have_no_text() -> None:
    output = encode_text([CALLS[0]]).removesuffix("[END]")
    assert complete(output) == streamed([*output]) == ("", expected(CALLS[:1]))


def test_a_call_is_told_as_soon_as_its_body_is_complete() -> None:
    parser = CmlToolParser(TRAINED)
    body = encode_text([CALLS[0]]).removesuffix("[END]")
    delta = parser.extract_tool_calls_streaming("", body, body, [], [], [], request())
    assert delta is not None
    assert [call.id for call in delta.tool_calls] == ["a"]
    assert parser.extract_tool_calls_streaming("", "", "[END]", [], [], [], request()) is None


@pytest.mark.parametrize(
    ("behind", "text"),
    [
        *(("", ""), (" ", ""), (" \n[END] so", " so"), (" so", " so"), ("}", "}")),
        *((" [E", "[E"), ("[", "["), (" [Em", " [Em"), (" [E[END]", " [E"), ("[TRAP]", "")),
    ],
)
def test_text_behind_a_call_without_its_end_is_kept(behind: str, text: str) -> None:
    output = encode_text([CALLS[0]]).removesuffix("[END]") + behind
    assert complete(output) == streamed([*output]) == (text, expected(CALLS[:1]))


def test_a_call_without_an_id_gets_one() -> None:
    _, [(call_id, name, arguments)] = complete('[CALL]{"name": "log", "arguments": {"x": 1}}[END]')
    assert call_id
    assert (name, arguments) == ("log", '{"x": 1}')


@pytest.mark.parametrize(
    "broken",
    ['[CALL]a[HEAD]{"name": "look",[END]', "[CALL]a[HEAD]{}[END]", '[CALL]a[HEAD]{"name": "lo'],
)
def test_what_is_no_call_is_shown_as_it_was_written(broken: str) -> None:
    assert complete(f"So: {broken}") == streamed([*f"So: {broken}"]) == (f"So: {broken}", [])


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        ("[CALL]a[END] or [CALL]b[END].", "[CALL]a[END] or [CALL]b[END]."),
        ("[CALL]a[HEAD]{[CALL]b[END]", "[CALL]a[HEAD]{[CALL]b[END]"),  # each by itself
        ("[TRAP]a[CALL]b[END]", "[TRAP]a[CALL]b[END]"),
        ("a[END] b", "a b"),
        ("[CALL]a[INTR]b[HEAD]c[END]d", "[CALL]a[INTR]d"),
    ],
)
def test_of_several_mistakes_each_is_shown_once(output: str, shown: str) -> None:
    assert complete(output) == streamed([*output]) == (shown, [])


def test_a_call_may_be_broken_off_by_a_call() -> None:
    output = '[CALL]a[HEAD]{"name": "f", [CALL]b[HEAD]{"name": "look"}[END]'
    wanted = ('[CALL]a[HEAD]{"name": "f", ', [("b", "look", "{}")])
    assert complete(output) == streamed([*output]) == wanted


def test_an_output_may_have_any_number_of_calls() -> None:
    """Without their ends, too. Above the limit of a turn they are shown as text."""
    text, calls = complete('[CALL]{"name": "f"}' * 2_000)
    assert len(calls) == 1_024
    assert text == '[CALL]{"name": "f"}[END]' * (2_000 - 1_024)


@pytest.mark.parametrize("unit", ["{},", "x{},", "}", '"{}"', "\\", "x"])
@pytest.mark.parametrize("start", ['[CALL]a[HEAD]{"arguments": [', "[CALL]a[HEAD]", "[INTR]", ""])
def test_a_body_is_read_once_however_long_it_is(start: str, unit: str) -> None:
    def reading(count: int) -> int:
        reader = _Reader()
        return effort(lambda: [reader.feed(piece) for piece in [start, *[unit] * count]])

    assert reading(400) <= 10 * reading(50)


def test_text_that_may_be_a_marker_is_not_lost() -> None:
    assert complete("an [END") == streamed([*"an [END"]) == ("an [END", [])


def test_turns_end_where_the_client_has_to_act() -> None:
    trap, end = (TRAINED.get_vocab()[marker] for marker in ("[TRAP]", "[END]"))

    def stops(**fields) -> list[int]:
        adjusted = CmlToolParser(TRAINED).adjust_request(request(**fields))
        assert not adjusted.skip_special_tokens
        return adjusted.stop_token_ids

    def in_mode(mode: str) -> dict[str, object]:
        return {"chat_template_kwargs": {"function_calling": mode}}

    assert stops(**in_mode("async"), stop_token_ids=[7]) == [7, trap]
    assert stops(**in_mode("sync_parallel")) == [trap]
    assert stops(**in_mode("sync")) == stops() == [trap, end]
    assert stops(**in_mode("async"), parallel_tool_calls=False) == [trap, end]
    assert stops(tool_choice="none") == []


def test_a_model_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="trained for CML"):
        CmlToolParser(tokenizer("[CALL]"))


def test_the_parser_has_a_name() -> None:
    assert ToolParserManager.get_tool_parser(CML_PARSER) is CmlToolParser


def test_the_model_cannot_write_interrupts() -> None:
    adjusted = CmlToolParser(TRAINED).adjust_request(request(bad_words=["oh"]))
    assert adjusted.bad_words == ["oh", "[INTR]"]
    params = adjusted.to_sampling_params(max_tokens=1, default_sampling_params={})
    params.update_from_tokenizer(get_cached_tokenizer(TRAINED))
    interrupt = TRAINED.convert_tokens_to_ids(Marker.INTR.value)
    assert [interrupt] in params.bad_words_token_ids
