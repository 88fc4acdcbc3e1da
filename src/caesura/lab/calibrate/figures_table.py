"""The figures of a device profile as a table."""

from collections.abc import Mapping

from rich.table import Table

from caesura.policy.profile import FIGURES, DeviceProfile

_UNITS = {
    "seconds_per_iteration": ("ms per iteration (c)", 1e3),
    "seconds_per_query_token": ("ms per query token (a)", 1e3),
    "seconds_per_context_token": ("µs per token of context (b)", 1e6),
    "seconds_per_sequence": ("µs per sequence (s)", 1e6),
    "seconds_per_attention_pair": ("ns per pair of prefill attention (p)", 1e9),
    "saturation_tokens": ("saturation point, tokens (S)", 1),
    "kv_bytes_per_token": ("KV bytes per token", 1),
    "link_bytes_per_second": ("GB/s to or from host memory", 1e-9),
}
"""Label with unit, and factor."""


def figures_table(
    columns: Mapping[str, DeviceProfile], profile: DeviceProfile, remarks: Mapping[str, str]
) -> Table:
    """A row for each figure, with whether it was measured.

    Args:
        columns: profiles side by side, by their headers.
        profile: the one that is told of.
        remarks: what else is to be said of the source of a figure.
    """
    table = Table(title=f"{profile.model} on {profile.name}", title_justify="left")
    table.add_column("figure")
    for header in columns:
        table.add_column(header, justify="right")
    table.add_column("source")
    for figure in FIGURES:
        label, factor = _UNITS[figure]
        values = [getattr(column, figure) * factor for column in columns.values()]
        shown = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in values]
        source = ", ".join(filter(None, (profile.source(figure), remarks.get(figure))))
        table.add_row(label, *shown, source)
    return table
