"""Sizes of memory, as people write them."""

import re

_BYTES_PER_UNIT = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_SIZE = re.compile(r"\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[a-z]*)\s*", re.ASCII | re.IGNORECASE)


def parse_size(size: str | int) -> int:
    """Bytes of a size such as "32MiB", "8GB", "1.5 GiB" or a plain number of bytes.

    Units of KB, MB, GB and TB are powers of 1000; KiB, MiB, GiB and TiB are powers of 1024.
    Case does not matter, and a fraction of a byte is rounded.

    Raises:
        ValueError: it is not a size; the message says how to write one.
    """
    if isinstance(size, bool) or not isinstance(size, int | str):
        raise ValueError(f"{size!r} is not a size; write it as in 32MiB, 8GB or 1048576")
    if isinstance(size, int):
        if size < 0:
            raise ValueError(f"a size cannot be negative: {size}")
        return size
    match = _SIZE.fullmatch(size)
    if match is None:
        raise ValueError(f"{size!r} is not a size; write it as in 32MiB, 8GB or 1048576")
    number, unit = match["number"], match["unit"].lower()
    if not unit:
        if "." in number:
            raise ValueError(f"{size!r} has a fraction and no unit; write it as in 1.5GiB")
        return int(number)
    if unit not in _BYTES_PER_UNIT:
        raise ValueError(
            f"{match['unit']!r} in {size!r} is not a unit of memory; "
            "use B, KB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB (powers of 1024)"
        )
    if "." in number:
        return round(float(number) * _BYTES_PER_UNIT[unit])
    return int(number) * _BYTES_PER_UNIT[unit]


def format_size(size_bytes: int) -> str:
    """A size for people, in the largest binary unit of which there is at least one.

    At most two decimals, so `parse_size` gives it back within 0.5 %.
    """
    for unit, name in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size_bytes >= unit:
            number = f"{size_bytes / unit:.2f}".rstrip("0").rstrip(".")
            return f"{number} {name}"
    return f"{size_bytes} B"
