"""Sessions on disk, a file per table."""

from caesura.session.store.store import Store
from caesura.session.store.table import left_out_if_unreadable

__all__ = ["Store", "left_out_if_unreadable"]
