"""The ids that fine-tuned models give to their calls: short, since each costs tokens twice."""

import string


def letter_id(number: int) -> str:
    """The id of a conversation's call of that number, from 0: a, b, ... z, a1, b1, ..."""
    round_, letter = divmod(number, len(string.ascii_lowercase))
    return string.ascii_lowercase[letter] + (str(round_) if round_ else "")
