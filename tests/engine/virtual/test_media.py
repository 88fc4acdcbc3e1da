"""What stands beside the tokens of a context, media and adapters, is a part of it."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from vllm.lora.request import LoRARequest
from vllm.multimodal.inputs import MultiModalFeatureSpec, PlaceholderRange
from vllm.v1.core.encoder_cache_manager import EncoderCacheManager
from vllm.v1.request import Request, StreamingUpdate

from caesura.engine.pauses.turns import append_tokens
from engine.virtual.engine import BLOCK_SIZE, Shape
from engine.virtual.stage import Player, Stage

POLICIES = {
    "preserve": Shape(options={"policy": "preserve", "keep_contexts": "all"}),
    "swap": Shape(
        connected=True, host_blocks=48, options={"policy": "swap", "keep_contexts": "all"}
    ),
}
PROMPT_TOKENS = 5 * BLOCK_SIZE
IMAGE_START = 2 * BLOCK_SIZE + 3
ENCODED_TOKENS = 1000


def image(identifier: str, start: int = IMAGE_START) -> MultiModalFeatureSpec:
    """An image of eight tokens that has been encoded somewhere else."""
    place = PlaceholderRange(offset=start, length=8)
    return MultiModalFeatureSpec(
        data=None, modality="image", identifier=identifier, mm_position=place
    )


@pytest.fixture(params=POLICIES.values(), ids=POLICIES.keys())
def stage(request: pytest.FixtureRequest) -> Stage:
    stage = Stage(request.param)
    stage.scheduler.max_num_encoder_input_tokens = ENCODED_TOKENS
    stage.scheduler.encoder_cache_manager = EncoderCacheManager(ENCODED_TOKENS)
    return stage


def paused(stage: Stage, **options: object) -> list[int]:
    """A request pauses; the tokens with which a client would come back."""
    player = stage.request("first", PROMPT_TOKENS, 8, **options)
    stage.run()
    assert [pause.id for pause in stage.scheduler.keeper.table] == ["first"]
    return [*player.transcript.tokens, 1, 2, 3]


def cached_tokens(stage: Stage, name: str, tokens: Sequence[int], **options: object) -> int:
    """How much of a request's tokens is not computed again."""
    player = Player(stage.harness, name, tokens)
    computed: list[int] = []

    def note(output) -> None:
        computed.append(output.num_scheduled_tokens.get(name, 0))

    stage.engine.on_schedule = note
    stage.submit(player, 1, **options)
    stage.run()
    return len(tokens) - sum(computed)


def test_the_same_tokens_with_another_image_are_another_context(stage: Stage) -> None:
    tokens = paused(stage, media=[image("cat")])
    before_the_image = IMAGE_START // BLOCK_SIZE * BLOCK_SIZE
    assert cached_tokens(stage, "dog", tokens, media=[image("dog")]) == before_the_image
    assert cached_tokens(stage, "none", tokens) == before_the_image


def test_a_context_is_continued_with_its_image(stage: Stage) -> None:
    tokens = paused(stage, media=[image("cat")])
    assert cached_tokens(stage, "cat", tokens, media=[image("cat")]) >= PROMPT_TOKENS
    assert "first" not in [pause.id for pause in stage.scheduler.keeper.table]


def adapter(name: str, path: str = "/adapters/1") -> LoRARequest:
    return LoRARequest(name, 1, path)


def test_an_adapter_has_contexts_of_its_own(stage: Stage) -> None:
    tokens = paused(stage, adapter=adapter("polite"))
    assert cached_tokens(stage, "base", tokens) == 0
    assert cached_tokens(stage, "rude", tokens, adapter=adapter("rude")) == 0
    moved = adapter("polite", "/adapters/2")
    assert cached_tokens(stage, "moved", tokens, adapter=moved) == 0
    assert [pause.id for pause in stage.scheduler.keeper.table if pause.id == "first"]
    same = cached_tokens(stage, "same", tokens, adapter=adapter("polite"))
    assert same >= PROMPT_TOKENS


def test_media_of_a_later_turn_change_the_blocks_behind_them_only() -> None:
    stage = Stage(POLICIES["preserve"])

    def extended(*media: MultiModalFeatureSpec) -> Request:
        session = stage.engine.request(
            "s", list(range(PROMPT_TOKENS)), max_tokens=1, resumable=True
        )
        update = stage.engine.request("s", list(range(PROMPT_TOKENS)), max_tokens=1, resumable=True)
        update.mm_features = [replace(feature) for feature in media]
        append_tokens(session, StreamingUpdate.from_request(update))
        return session

    plain, cat, dog = (extended(*media) for media in ((), (image("cat"),), (image("dog"),)))
    (place,) = [feature.mm_position for feature in cat.mm_features]
    assert place.offset == PROMPT_TOKENS + IMAGE_START
    same = (PROMPT_TOKENS + IMAGE_START) // BLOCK_SIZE
    assert plain.block_hashes[:same] == cat.block_hashes[:same] == dog.block_hashes[:same]
    for one, other in ((plain, cat), (cat, dog), (plain, dog)):
        assert not set(one.block_hashes[same:]) & set(other.block_hashes[same:])
