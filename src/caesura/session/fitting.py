"""Results that are cut to the room that is left in a context, so that the model can go on."""

from collections.abc import Awaitable, Callable, Sequence

SHORTEST_RESULT = 200
"""Characters; shorter results are not cut."""

TokensOf = Callable[[Sequence[str]], Awaitable[Sequence[int]]]


def room_after(tokens: int, longest: int, turn_tokens: int) -> int:
    """Tokens that results may have.

    Args:
        tokens: of the transcript before them.
        longest: of the context.
        turn_tokens: that the model may write after them; a quarter of the context is enough.
    """
    return longest - tokens - min(turn_tokens, longest // 4)


async def fitted(texts: Sequence[str], room: int, tokens_of: TokensOf) -> list[int]:
    """Tokens of results; the longest are cut if they are more than there is room for, and the
    model reads that they were.

    Args:
        texts: the results.
        room: how many tokens are wanted at most; more are given if the shortest need them.
        tokens_of: tokens of the results with these texts, and of all that goes with them.
    """
    tokens = await tokens_of(texts)
    characters = max(map(len, texts), default=0)
    while len(tokens) > room and characters > SHORTEST_RESULT:
        characters = int(characters * min(max(room, 1) / len(tokens), 0.9))
        tokens = await tokens_of([_cut_to(text, characters) for text in texts])
    return list(tokens)


def _cut_to(text: str, characters: int) -> str:
    if len(text) <= characters:
        return text
    note = (
        f"\n[The result was cut: it has {len(text)} characters, and the context has room for "
        f"{characters} of them. Ask for less.]"
    )
    return text[:characters] + note
