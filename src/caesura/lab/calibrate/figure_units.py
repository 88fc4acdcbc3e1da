"""How the figures of a device profile are shown: label with unit, and factor."""

UNITS = {
    "seconds_per_iteration": ("ms per iteration (c)", 1e3),
    "seconds_per_query_token": ("ms per query token (a)", 1e3),
    "seconds_per_context_token": ("µs per token of context (b)", 1e6),
    "seconds_per_sequence": ("µs per sequence (s)", 1e6),
    "seconds_per_attention_pair": ("ns per pair of prefill attention (p)", 1e9),
    "saturation_tokens": ("saturation point, tokens (S)", 1),
    "kv_bytes_per_token": ("KV bytes per token", 1),
    "link_bytes_per_second": ("GB/s to or from host memory", 1e-9),
}
