"""Results as text that any model and any client can take."""

import re

_NUL = "\0"
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def clean_text(text: str) -> str:
    """The text without NULs, and with a replacement character for what is not Unicode."""
    return _SURROGATE.sub("\ufffd", text.replace(_NUL, ""))


def cut_text(text: str, max_bytes: int) -> tuple[str, bool]:
    """At most so many bytes of a text in UTF-8, a note included, and whether it was cut."""
    encoded = text.encode()
    if len(encoded) <= max_bytes:
        return text, False
    note = f"\n[The result was cut: it has {len(encoded)} bytes, and the limit is {max_bytes}.]"
    kept = encoded[: max(0, max_bytes - len(note))].decode(errors="ignore")
    return kept + note, True
