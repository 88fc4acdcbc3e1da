"""The events of host copies that a trace records."""

from caesura.engine.copies.batch import CopyBatch


class CopyListener:
    """Receives the events of `Transfers`. This one ignores them."""

    def copies_launched(self, batch: CopyBatch) -> None:
        """An iteration's copies were handed to the workers."""

    def copies_finished(self, batch_id: int, succeeded: bool) -> None:
        """All workers have reported a batch."""


NO_COPY_LISTENER = CopyListener()
