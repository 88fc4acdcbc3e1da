"""The ids that trained models give to their calls: `price2`, and `price2_again` for its retry."""

RETRY_SUFFIX = "_again"


def id_of(tool: str, number: int) -> str:
    """The id of a tool's call of that number in the conversation, from 1."""
    return f"{tool}{number}"


def retry_of(call_id: str) -> str:
    """The id of the second attempt."""
    return call_id + RETRY_SUFFIX


def is_retry(call_id: str) -> bool:
    """Whether it is the id of a second attempt."""
    return call_id.endswith(RETRY_SUFFIX)


def tool_and_number(call_id: str) -> tuple[str, int]:
    """What an id was made of."""
    stem = call_id.removesuffix(RETRY_SUFFIX)
    tool = stem.rstrip("0123456789")
    return tool, int(stem[len(tool) :])
