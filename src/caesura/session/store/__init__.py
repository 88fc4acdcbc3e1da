"""Sessions on disk, a file per table."""

from caesura.session.store.owner_names import keyed_owner
from caesura.session.store.request_table import RequestKey
from caesura.session.store.response_table import Place, ResponseRecord
from caesura.session.store.store import Store
from caesura.session.store.table import left_out_if_unreadable

__all__ = [
    "Place",
    "RequestKey",
    "ResponseRecord",
    "Store",
    "keyed_owner",
    "left_out_if_unreadable",
]
