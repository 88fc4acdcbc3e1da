"""What a device costs with a model: iteration times, KV size and the link to host memory.

Profiles are measured (`caesura calibrate`), taken from a publication, or computed from data
sheets (`caesura.lab.sim.profiles`). Each figure says whether it was measured.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

SCHEMA = "caesura.device-profile"
SCHEMA_VERSION = 1

MEASURED = "measured"
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """Costs of one device (or several in tensor parallel) with one model.

    An iteration takes `c + a * x + b * ctx + s * n + p * pairs` seconds for `x` query tokens of
    `n` sequences that are `ctx` tokens long in total, and `pairs` of prefill attention:
    InferCept's `T_fwd` (section 4) with the terms that it leaves out.

    Attributes:
        name: the device.
        model: the model.
        measured: its figures were measured, by us or by a publication, but for `defaults`.
        seconds_per_iteration: `c`.
        seconds_per_query_token: `a`.
        seconds_per_context_token: `b`, for each token of KV that is read; 0 if unknown.
        seconds_per_sequence: `s`, for each sequence of an iteration; 0 if unknown.
        saturation_tokens: query tokens per iteration beyond which its time grows linearly.
        kv_bytes_per_token: KV cache of one token over all layers and ranks.
        link_bytes_per_second: copies between device and host memory, one way, over all ranks.
        link_overlaps: copies run beside computation; else an iteration waits for its copies.
        seconds_per_attention_pair: `p`, for each pair of a prefilled token and a token before
            it; 0 if unknown. It makes prefilling quadratic in the context.
        defaults: names of figures that are defaults although the profile is measured.
    """

    name: str
    model: str
    measured: bool
    seconds_per_iteration: float
    seconds_per_query_token: float
    seconds_per_context_token: float
    seconds_per_sequence: float
    saturation_tokens: int
    kv_bytes_per_token: int
    link_bytes_per_second: float
    link_overlaps: bool
    seconds_per_attention_pair: float = 0.0
    defaults: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Refuse figures that cannot be.

        Raises:
            ValueError: names the figure.
        """
        for figure in FIGURES:
            value = getattr(self, figure)
            least_is_zero = figure in _MAY_BE_ZERO
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{figure} of a device profile must be a number, not {value!r}")
            if not math.isfinite(value) or value < 0 or (value == 0 and not least_is_zero):
                bound = "at least 0" if least_is_zero else "more than 0"
                raise ValueError(f"{figure} of a device profile must be {bound}, not {value!r}")
            if figure in _INTEGERS and value != int(value):
                raise ValueError(f"{figure} of a device profile must be whole, not {value!r}")
        unknown = self.defaults.difference(FIGURES)
        if unknown:
            raise ValueError(f"not figures of a device profile: {', '.join(sorted(unknown))}")

    def iteration_seconds(
        self,
        query_tokens: float,
        context_tokens: float = 0,
        sequences: float = 0,
        attention_pairs: float = 0,
    ) -> float:
        """Time of an iteration.

        Args:
            query_tokens: tokens that it computes.
            context_tokens: tokens of KV that it reads: over the sequences that it runs, those
                computed before and in it.
            sequences: how many it runs.
            attention_pairs: over the sequences with more than one query token, the sum of the
                tokens before each query token (`attention_pairs()`).
        """
        return (
            self.seconds_per_iteration
            + self.seconds_per_query_token * query_tokens
            + self.seconds_per_context_token * context_tokens
            + self.seconds_per_sequence * sequences
            + self.seconds_per_attention_pair * attention_pairs
        )

    def copy_seconds(self, tokens: float) -> float:
        """`T_swap`: time to copy the context of `tokens` tokens one way."""
        return tokens * self.kv_bytes_per_token / self.link_bytes_per_second

    def source(self, figure: str) -> str:
        """Whether a figure is "measured" or a "default"."""
        return MEASURED if self.measured and figure not in self.defaults else DEFAULT

    def to_json(self) -> str:
        """The profile as JSON, each figure with its source."""
        document = {
            "schema": SCHEMA,
            "version": SCHEMA_VERSION,
            "name": self.name,
            "model": self.model,
            "measured": self.measured,
            "link_overlaps": self.link_overlaps,
            "figures": {
                figure: {"value": getattr(self, figure), "source": self.source(figure)}
                for figure in FIGURES
            },
        }
        return json.dumps(document, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote. Other keys at the top are left alone.

        Raises:
            ValueError: it is not a device profile; the message says why.
        """
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"not a device profile: not JSON ({error})") from error
        if not isinstance(document, Mapping) or document.get("schema") != SCHEMA:
            raise ValueError(
                f'not a device profile: "schema" must be "{SCHEMA}"; '
                "`caesura calibrate --json PROFILE.json` writes one"
            )
        if document.get("version") != SCHEMA_VERSION:
            raise ValueError(
                f"device profile of version {document.get('version')!r}; this Caesura reads "
                f"version {SCHEMA_VERSION}: calibrate again"
            )
        values, defaults = _read_figures(document.get("figures"))
        measured = _read(document, "measured", bool)
        return cls(
            name=_read(document, "name", str),
            model=_read(document, "model", str),
            measured=measured,
            link_overlaps=_read(document, "link_overlaps", bool),
            defaults=defaults if measured else frozenset(),
            **values,
        )

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a file that `caesura calibrate` or `save` wrote.

        Raises:
            ValueError: it cannot be read, or is not a device profile; the message names it.
        """
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error

    def save(self, path: Path | str) -> None:
        """Write the profile to a file."""
        Path(path).write_text(self.to_json(), encoding="utf-8")


_NOT_FIGURES = {"name", "model", "measured", "link_overlaps", "defaults"}
FIGURES = tuple(field.name for field in fields(DeviceProfile) if field.name not in _NOT_FIGURES)
_OPTIONAL = frozenset({"seconds_per_attention_pair"})
_INTEGERS = frozenset({"saturation_tokens", "kv_bytes_per_token"})
_MAY_BE_ZERO = frozenset(
    {
        "seconds_per_iteration",
        "seconds_per_context_token",
        "seconds_per_sequence",
        "seconds_per_attention_pair",
    }
)


def attention_pairs(query_tokens: int, computed_tokens: int) -> int:
    """Pairs of prefill attention of one sequence: `query_tokens` after `computed_tokens`.

    0 for a single query token: what decoding reads is context.
    """
    if query_tokens <= 1:
        return 0
    return query_tokens * computed_tokens + query_tokens * (query_tokens - 1) // 2


def _read(document: Mapping[str, Any], key: str, kind: type) -> Any:
    value = document.get(key)
    if not isinstance(value, kind):
        raise ValueError(f'device profile: "{key}" must be a {kind.__name__}, not {value!r}')
    return value


def _read_figures(figures: object) -> tuple[dict[str, Any], frozenset[str]]:
    if not isinstance(figures, Mapping):
        raise ValueError('device profile: "figures" is missing')
    for what, names in (
        ("unknown", set(figures).difference(FIGURES)),
        ("missing", set(FIGURES).difference(figures, _OPTIONAL)),
    ):
        if names:
            raise ValueError(f"device profile: {what} figures: {', '.join(sorted(names))}")
    for name, entry in figures.items():
        if not isinstance(entry, Mapping) or entry.get("source") not in (MEASURED, DEFAULT):
            raise ValueError(
                f'device profile: figure {name} must have a "value" and a "source", '
                f'"{MEASURED}" or "{DEFAULT}"'
            )
    values = {name: entry.get("value") for name, entry in figures.items()}
    return values, frozenset(n for n, entry in figures.items() if entry["source"] == DEFAULT)
