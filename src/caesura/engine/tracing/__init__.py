"""A timeline of what an engine did, for Perfetto."""
