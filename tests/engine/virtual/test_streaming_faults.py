"""Faults that vLLM's own streaming sessions are known to have, on the path that replaces them.

Numbers are those of vLLM's issues and pull requests. The deadlock of sessions that all need more
memory (#49439) is in `test_forward_progress.py`.
"""

from collections.abc import Sequence
from copy import copy

import pytest
from vllm.sampling_params import StructuredOutputsParams
from vllm.v1.engine import EngineCoreOutput, FinishReason
from vllm.v1.structured_output import StructuredOutputManager
from vllm.v1.structured_output.backend_types import StructuredOutputGrammar
from vllm.v1.structured_output.request import StructuredOutputRequest, get_structured_output_key

from caesura.cml import CallStop, FrameRules
from caesura.engine.model.frames import SessionFrames, frames_argument
from caesura.engine.protocol import FRAMES_ARGUMENT, INTERRUPTED
from caesura.lab.models.noise_model import demo_model_path
from caesura.lab.sim.vllm_config import base_config
from engine.virtual.device import chain_of, extend_chain, next_token
from engine.virtual.engine import BLOCK_SIZE, Shape
from engine.virtual.runners import RunnerVersion
from engine.virtual.stage import Player, Stage, every_mode

LENGTH, STOP = FinishReason.LENGTH, FinishReason.STOP


class Session(Player):
    """A session in place, whose turns are noted."""

    def __init__(self, stage: Stage, tokens: int) -> None:
        super().__init__(stage.harness, "session", stage.words(tokens))
        self.stage = stage
        self.reasons: list[int | str | None] = []
        self.tokens_of_turns: list[int] = []
        self._tokens_before = 0

    def receive(self, output: EngineCoreOutput) -> None:
        super().receive(output)
        if output.finish_reason is not None:
            self.reasons.append(output.stop_reason)
            self.tokens_of_turns.append(self.tokens - self._tokens_before)
            self._tokens_before = self.tokens

    def begin(self, max_tokens: int, **options: object) -> None:
        """The first turn."""
        self.stage.submit(self, max_tokens, resumable=True, **options)

    def append(self, tokens: Sequence[int], max_tokens: int, **options: object) -> None:
        """One more turn; the caller adds the tokens to the transcript when the last has ended."""
        request = self.stage.engine.request(
            self.name, tokens, max_tokens=max_tokens, resumable=True, **options
        )
        self.stage.harness.send(self, request)

    def go_on(self, tokens: int, max_tokens: int, **options: object) -> None:
        """One more turn of a paused session, until it has ended."""
        words = self.stage.words(tokens)
        self.transcript.append(words)
        self.append(words, max_tokens, **options)
        self.stage.run()

    def next_token(self) -> int:
        """What is sampled next."""
        return next_token(self.transcript._chain)


@pytest.fixture(scope="module")
def grammars() -> StructuredOutputManager:
    """vLLM's, for a model with a tokenizer."""
    config = copy(base_config(str(demo_model_path()), BLOCK_SIZE))
    config.model_config = copy(config.model_config)
    config.model_config.skip_tokenizer_init = False
    return StructuredOutputManager(config)


def engine(in_flight: int, runner: RunnerVersion) -> Stage:
    options = {"policy": "preserve", "check_integrity": True}
    stage = Stage(Shape(in_flight=in_flight, runner=runner, options=options))
    stage.scheduler.frames = SessionFrames(lambda token_id: "word ")  # it has no tokenizer
    return stage


def with_frames() -> dict[str, object]:
    """Rules by which an interrupt may end a turn before its first token."""
    rules = FrameRules(call=101, trap=102, head=103, end=104, interrupt=105, calls=CallStop.NEVER)
    return {FRAMES_ARGUMENT: frames_argument(rules, ())}


@every_mode()
def test_a_turn_whose_first_token_stops_it_ends_neither_session_nor_engine(
    in_flight: int, runner: RunnerVersion
) -> None:
    """#52693."""
    stage = engine(in_flight, runner)
    other = stage.request("other", 40, max_tokens=30)
    session = Session(stage, 60)
    session.begin(5, stop_tokens=[session.next_token()])
    stage.run()
    words = stage.words(10)
    session.transcript.append(words)
    session.append(words, 5, stop_tokens=[session.next_token()])
    stage.run()
    session.go_on(10, 3)
    assert session.tokens_of_turns == [1, 1, 3]
    assert session.endings == [STOP, STOP, LENGTH]
    assert other.turns == 1


@every_mode()
def test_a_turn_to_which_nothing_is_added_goes_on_behind_the_last_token(
    in_flight: int, runner: RunnerVersion
) -> None:
    """#52693: there is still a token to compute."""
    stage = engine(in_flight, runner)
    session = Session(stage, 60)
    session.begin(2)
    stage.run()
    session.go_on(0, 3)
    session.append([], 4)
    session.append([], 2)  # while it generates
    stage.run()
    assert session.tokens_of_turns[:2] == [2, 3]
    assert session.turns == 4
    assert session.tokens > 5


@every_mode()
def test_a_turn_without_any_token_is_over_and_the_next_goes_on(
    in_flight: int, runner: RunnerVersion
) -> None:
    """#52693: an interrupt that came with the first token of a turn, which is sampled anew."""
    stage = engine(in_flight, runner)
    session = Session(stage, 60)
    session.begin(4, extra_args=with_frames())
    words = stage.words(5)
    session.append(words, 3, extra_args=with_frames())
    stage.harness.run(until=lambda: session.turns > 0)
    session.transcript.append(words)
    stage.run()
    assert session.tokens_of_turns == [0, 3]
    assert session.reasons == [INTERRUPTED, None]


@every_mode()
@pytest.mark.parametrize("frames", [False, True])
def test_nothing_added_to_a_turn_without_any_token_ends_no_engine(
    in_flight: int, runner: RunnerVersion, frames: bool
) -> None:
    """#52693: all tokens of the session are computed, and the next one is still to be sampled."""
    stage = engine(in_flight, runner)
    session = Session(stage, 60)
    options = {"extra_args": with_frames()} if frames else {}
    session.begin(4, **options)
    session.append([], 3, **options)
    stage.run()
    assert session.turns == 2
    assert session.tokens >= 3
    session.go_on(10, 2, **options)
    assert session.tokens_of_turns[2] == 2


@every_mode()
def test_each_turn_has_its_own_limit(in_flight: int, runner: RunnerVersion) -> None:
    """#57676."""
    stage = engine(in_flight, runner)
    session = Session(stage, 60)
    session.begin(2)
    stage.run()
    session.go_on(5, 9)
    session.go_on(5, 1)
    words = stage.words(5)
    session.transcript.append(stage.words(3))
    session.append(session.transcript.tokens[-3:], 30)
    stage.harness.run(until=lambda: session.tokens > 12)
    session.append(words, 6)  # while it generates
    stage.harness.run(until=lambda: session.turns == 4)
    session.transcript.append(words)
    stage.run()
    assert session.tokens_of_turns[:3] == [2, 9, 1]
    assert session.tokens_of_turns[4] == 6
    assert session.endings[4] == LENGTH


@every_mode()
@pytest.mark.parametrize("queued", [False, True])
def test_the_reason_of_a_turn_is_not_that_of_the_next(
    in_flight: int, runner: RunnerVersion, queued: bool
) -> None:
    """#57584: for tokens that come after the stop, and for those that wait for it."""
    stage = engine(in_flight, runner)
    session = Session(stage, 60)
    stop = session.next_token()
    words = stage.words(5)
    session.begin(4, stop_tokens=[stop])
    if queued:
        session.append(words, 3)
        stage.harness.run(until=lambda: session.turns == 1)
    else:
        stage.run()
        session.append(words, 3)
    session.transcript.append(words)
    stage.run()
    assert session.reasons == [stop, None]
    assert session.endings == [STOP, LENGTH]


def words_before_text(session: Session, tokens: int) -> list[int]:
    """Words after which so many tokens are none of the model's special ones: no grammar of text
    takes those (vLLM 0.32 let them pass)."""
    specials = 10
    while True:
        words = session.stage.words(4)
        chain = chain_of([*session.transcript.tokens, *words])
        following: list[int] = []
        while len(following) < tokens:
            following.append(next_token(chain))
            extend_chain(chain, following[-1:])
        if min(following) >= specials:
            return words


GRAMMARS = [None, "(.|\n)*", "(a|.|\n)*", "(a|.|\n)*", None]


@every_mode()
def test_each_turn_has_its_own_grammar_at_its_start(
    in_flight: int, runner: RunnerVersion, grammars: StructuredOutputManager
) -> None:
    """#57685: from text to a grammar, to another one, to the same again, and back to text."""
    stage = engine(in_flight, runner)
    stage.scheduler.structured_output_manager = grammars
    session = Session(stage, 60)
    session.begin(2)
    stage.run()
    for regex in GRAMMARS:
        words = words_before_text(session, 3)
        request = stage.engine.request("session", words, max_tokens=3, resumable=True)
        if regex is not None:
            params = StructuredOutputsParams(regex=regex)
            params._backend = "xgrammar"
            request.sampling_params.structured_outputs = params
            request.structured_output_request = StructuredOutputRequest(params)
            grammars.grammar_init(request)  # as the engine core
        session.transcript.append(request.prompt_token_ids)
        stage.scheduler.add_request(request)
        structured = stage.scheduler.requests["session"].structured_output_request
        if regex is None:
            assert structured is None
        else:
            assert structured is not None
            assert structured.structured_output_key == get_structured_output_key(params)
            assert isinstance(structured.grammar, StructuredOutputGrammar)
            assert structured.grammar.num_processed_tokens == 0
        stage.run()
    assert session.tokens_of_turns == [2, 3, 3, 3, 3, 3]
