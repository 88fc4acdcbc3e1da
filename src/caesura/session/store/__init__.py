"""Sessions on disk, a file per table."""

from caesura.session.store.store import Store

__all__ = ["Store"]
