"""A transaction of the store: its database and its payload files, both or neither."""

from __future__ import annotations

import contextlib
import sqlite3

from fxhpc.forwarder.claim import Claim
from fxhpc.forwarder.store.acknowledged import Acknowledged
from fxhpc.forwarder.store.errors import explain
from fxhpc.forwarder.store.files import PayloadFiles


class Transaction:
    """One transaction of database and files: both, or neither.

    Args:
        claim: this process's to the store, if others may take that over. It is looked at before
            anything is written, and again when all is: what another owner may not have seen is
            not called stored.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        files: PayloadFiles | None,
        acknowledged: Acknowledged | None,
        path: str,
        claim: Claim | None = None,
    ) -> None:
        self._connection = connection
        self._files = files
        self._acknowledged = acknowledged
        self._path = path
        self._claim = claim
        self._changes = connection.total_changes

    def __enter__(self) -> None:
        if self._claim is not None:
            self._claim.check()
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise explain(error, self._path) from error

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            try:
                if self._files is not None:
                    self._files.sync_directory()
                self._connection.execute("COMMIT")
            except (sqlite3.Error, OSError) as failure:
                error = failure
            else:
                # What changes nothing is not in the log.
                if (
                    self._acknowledged is not None
                    and self._connection.total_changes != self._changes
                ):
                    self._acknowledged.note()
                if self._files is not None:
                    self._files.commit()
                if self._claim is not None:
                    self._claim.confirm()
                return
        # SQLite has undone the transaction itself after some errors, a full disk among them.
        if self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):  # what it meets is told by `error`
                self._connection.execute("ROLLBACK")
        if self._acknowledged is not None:
            self._acknowledged.doubt()
        if self._files is not None:
            self._files.rollback()
        if isinstance(error, sqlite3.Error | OSError):
            raise explain(error, self._path) from error
        # any other error goes on by itself
