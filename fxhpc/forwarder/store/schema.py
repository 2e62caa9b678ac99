"""The store's tables, and the steps that lead an older store to them."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence

from fxhpc.errors import StoreTooNew
from fxhpc.version import __version__

#: MIGRATIONS[n] leads from version n to n + 1. A released step is never edited, only followed.
#: What stands before a blob in its row can be read without reading the blob.
MIGRATIONS: Sequence[str] = (
    """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;

    CREATE TABLE body (digest BLOB PRIMARY KEY, size INTEGER NOT NULL, data BLOB);

    CREATE TABLE function (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, searchable INTEGER NOT NULL,
        created REAL NOT NULL, name TEXT NOT NULL, record BLOB NOT NULL
    );
    CREATE VIRTUAL TABLE search USING fts5 (
        name, description, author, source, tokenize = "unicode61 remove_diacritics 2"
    );

    CREATE TABLE stream (
        number INTEGER PRIMARY KEY, stream BLOB NOT NULL UNIQUE, owner BLOB NOT NULL,
        info BLOB NOT NULL
    );

    CREATE TABLE submission (
        row INTEGER PRIMARY KEY, stream BLOB NOT NULL, first INTEGER NOT NULL,
        count INTEGER NOT NULL, size INTEGER NOT NULL, shared BLOB, payloads BLOB NOT NULL
    );
    CREATE INDEX submission_stream ON submission (stream);
    CREATE TABLE submission_large (
        row INTEGER, position INTEGER, size INTEGER NOT NULL, data BLOB,
        PRIMARY KEY (row, position)
    );

    CREATE TABLE result (
        row INTEGER PRIMARY KEY, stream BLOB NOT NULL, ranges BLOB NOT NULL,
        size INTEGER NOT NULL, ended REAL NOT NULL, host TEXT NOT NULL, outcomes BLOB NOT NULL
    );
    CREATE INDEX result_stream ON result (stream);
    CREATE TABLE result_large (
        row INTEGER, position INTEGER, size INTEGER NOT NULL, data BLOB,
        PRIMARY KEY (row, position)
    );

    CREATE TABLE exception (
        stream BLOB, task INTEGER, kind INTEGER, data BLOB NOT NULL,
        PRIMARY KEY (stream, task, kind)
    ) WITHOUT ROWID;
    """,
    # Which tasks of a result row ended otherwise than by a value: known without reading the row.
    """
    CREATE TABLE result_kind (
        row INTEGER, kind INTEGER, ranges BLOB NOT NULL, PRIMARY KEY (row, kind)
    ) WITHOUT ROWID;
    """,
    # Checksums of what SQLite itself does not check; when somebody last asked for a stream; streams
    # that are forgotten, and whose rows are not all dropped yet; which bodies rows refer to, known
    # without reading the rows.
    """
    ALTER TABLE submission ADD COLUMN crc INTEGER;
    ALTER TABLE submission_large ADD COLUMN crc INTEGER;
    ALTER TABLE result ADD COLUMN crc INTEGER;
    ALTER TABLE result_large ADD COLUMN crc INTEGER;
    ALTER TABLE stream ADD COLUMN crc INTEGER;
    ALTER TABLE stream ADD COLUMN looked REAL NOT NULL DEFAULT 0;
    CREATE TABLE dropped (stream BLOB PRIMARY KEY) WITHOUT ROWID;
    CREATE INDEX submission_shared ON submission (shared) WHERE shared IS NOT NULL;
    """,
    # Containers that functions may choose.
    """
    CREATE TABLE container (
        id TEXT PRIMARY KEY, created REAL NOT NULL, record BLOB NOT NULL
    ) WITHOUT ROWID;
    """,
)


def refuse_newer(version: int, path: str, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Make sure that this fxhpc knows the version of the store at `path`.

    Raises:
        StoreTooNew: a newer fxhpc has written it; it is left as it is.
    """
    if version > len(migrations):
        raise StoreTooNew(
            f"The store {path} has version {version}, and fxhpc {__version__} knows only up to "
            f"version {len(migrations)}. Use the newer fxhpc that wrote it, or another home "
            f"(FXHPC_HOME); nothing was changed."
        )


def migrate(
    connection: sqlite3.Connection, path: str, migrations: Sequence[str] = MIGRATIONS
) -> str | None:
    """Lead a store to the newest version, each step whole or not at all.

    An older store is copied first. Returns where to, or None if there was nothing to copy.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    copy = None
    if 0 < version < len(migrations) and path != ":memory:":
        copy = f"{path}.v{version}.bak"
        _copy(connection, copy)
    for step in range(version, len(migrations)):
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{migrations[step]}\n;PRAGMA user_version = {step + 1};\nCOMMIT;"
            )
        except BaseException:
            if connection.in_transaction:
                connection.rollback()
            raise
    return copy


def _copy(connection: sqlite3.Connection, target: str) -> None:
    # Through the connection that holds the lock: reading the file beside it would drop the lock.
    draft = f"{target}.part"
    os.close(os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
    destination = sqlite3.connect(draft)
    try:
        connection.backup(destination)
    finally:
        destination.close()
    os.replace(draft, target)
