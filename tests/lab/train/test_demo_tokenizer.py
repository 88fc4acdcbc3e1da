import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caesura.bundled.demo_tools import TOOLS, Kind, draw_value
from caesura.cml import Call, Marker, Mode
from caesura.lab.train.demo_tokenizer import DemoCodec, build_tokenizer, save_tokenizer
from caesura.lab.train.held_out import side
from support.draws import examples

CODEC = DemoCodec()


def pieces(text: str) -> list[str]:
    return [CODEC.texts[token] for token in CODEC.tokenize(text)]


@settings(max_examples=examples(100))
@given(st.text(max_size=40))
def test_any_text_comes_back(text: str) -> None:
    assert build_tokenizer().decode(CODEC.tokenize(text)) == text


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.STATUS])
def test_a_value_has_the_same_tokens_wherever_it_stands(kind: Kind) -> None:
    source = random.Random(5)
    for _ in range(20):
        value = draw_value(kind, source, side(False))
        own = CODEC.tokenize(value)
        assert len(own) <= 3
        price = TOOLS[-1]
        for before, after in (("of ", "?"), (price.head, '"}}'), (" price2: ", "."), ("", "")):
            tokens = CODEC.tokenize(before + value + after)
            assert any(tokens[i : i + len(own)] == own for i in range(len(tokens)))


def test_head_id_and_tail_of_a_call_are_a_token_each() -> None:
    call = Call("price1_again", "price", {"item": "K4821"})
    spelled = [CODEC.texts[token] for token in CODEC.encode([call])]
    head = '{"name": "price", "arguments": {"item": "'
    expected = ["[CALL]", "price1_again", "[HEAD]", head, "K", "48", "21", '"}}', "[END]"]
    assert spelled == expected


def test_an_answer_line_can_be_cut_only_at_its_beginning() -> None:
    tokens = CODEC.tokenize(" price1: 4821.")
    assert pieces(" price1: 4821.") == [" ", "price1", ": ", "48", "21", "."]
    assert [token in CODEC.safe_tokens for token in tokens] == [True] + [False] * 5


def test_interrupts_may_come_before_calls_traps_and_the_end() -> None:
    symbols = CODEC.symbols
    assert {symbols[Marker.CALL], symbols[Marker.TRAP], CODEC.eos} <= CODEC.safe_tokens
    assert not {symbols[Marker.HEAD], symbols[Marker.END]} & CODEC.safe_tokens


@pytest.mark.parametrize("mode", list(Mode))
def test_the_chat_template_gives_the_tokens_of_training(mode: Mode, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    save_tokenizer(tmp_path, 512)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    question = "What is the price of K4821? Thanks."
    user = {"role": "user", "content": question}

    def rendered(*messages: dict[str, str]) -> list[int]:
        tokens = tokenizer.apply_chat_template(
            list(messages),
            add_generation_prompt=True,
            return_dict=False,
            function_calling=mode.value,
        )
        return list(tokens)

    prompt = CODEC.prompt(question, mode)
    assert rendered({"role": "system", "content": "Be kind."}, user) == prompt
    answer = " price1: 4821."
    expected = [*prompt, *CODEC.tokenize(answer), CODEC.eos, *prompt]
    assert rendered(user, {"role": "assistant", "content": answer}, user) == expected


def test_without_a_mode_the_chat_template_says_sync(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    save_tokenizer(tmp_path, 512)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    tokens = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Find it."}], add_generation_prompt=True, return_dict=False
    )
    assert list(tokens) == CODEC.prompt("Find it.", Mode.SYNC)
