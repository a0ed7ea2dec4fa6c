"""Dagster's own SQLite storage, with connections that stay open.

Dagster's event log makes a new engine and a new connection for every statement, compiles
the statement anew, and looks up the columns of a table for every event: 12 ms an event, of
which a shard has 13. Here an engine is made once for each database and its connection is
kept, which leaves files, tables, rows and transactions as they are: an event is on disk
when storing it returns, and Dagster's own class reads what this one wrote.

``dagster.yaml`` names it; ``benchmarks/overhead.py`` says what it saves. It overrides
private methods of Dagster 1.13, hence the exact pin on its minor version and
``tests/jobs/test_sqlite_storage.py``, which compares the rows of both.
"""

import fcntl
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from dagster import DagsterInstance
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.sql import create_engine
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage, _event_logs_directory
from dagster._serdes import ConfigurableClassData
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import QueuePool

MOST_ENGINES = 16
"""Each run has a database of its own, and a web server reads those of many."""


class PooledEventLog(SqliteEventLogStorage):
    """Events in SQLite files, through connections that are kept."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None):
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._knows_index_columns = False
        self._known_tables: set[str] = set()
        super().__init__(base_dir, inst_data)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        """Give a connection in a transaction, to one thread at a time as Dagster does."""
        with self._db_lock, self._engine(shard).begin() as connection:
            yield connection

    def _engine(self, shard: str) -> Engine:
        if shard in self._engines:
            self._engines.move_to_end(shard)
            return self._engines[shard]
        engine = create_engine(
            self.conn_string_for_shard(shard),
            poolclass=QueuePool,
            pool_size=1,
            connect_args={
                "timeout": SQLITE_BUSY_TIMEOUT_SECONDS,
                "check_same_thread": False,  # the lock keeps threads apart
            },
        )
        if shard not in self._initialized_dbs:
            self._initdb(engine)
            self._initialized_dbs.add(shard)
        self._engines[shard] = engine
        if len(self._engines) > MOST_ENGINES:
            self._engines.popitem(last=False)[1].dispose()
        return engine

    def _has_asset_key_index_cols_on_connection(self, conn: Connection) -> bool:
        """Look for the columns until they are there: no column ever goes away."""
        if not self._knows_index_columns:
            found = super()._has_asset_key_index_cols_on_connection(conn)
            self._knows_index_columns = found
        return self._knows_index_columns

    def has_table(self, table_name: str) -> bool:
        """Look for a table until it is there."""
        if table_name not in self._known_tables and super().has_table(table_name):
            self._known_tables.add(table_name)
        return table_name in self._known_tables

    def wipe(self) -> None:
        self._close()  # files of runs are deleted
        super().wipe()

    def dispose(self) -> None:
        self._close()
        super().dispose()

    def _close(self) -> None:
        with self._db_lock:
            while self._engines:
                self._engines.popitem()[1].dispose()


class CurationInstance(DagsterInstance):
    """A Dagster instance whose storage is :class:`PooledSqliteStorage` by default."""

    @classmethod
    def config_schema(cls) -> dict[str, Any]:
        """There is nothing more to set than in any instance."""
        return {}

    @classmethod
    def config_defaults(cls, base_dir: str) -> dict[str, Any]:
        """Give Dagster's defaults, but for the storage."""
        storage = ConfigurableClassData(
            PooledSqliteStorage.__module__,
            PooledSqliteStorage.__name__,
            yaml.safe_dump({"base_dir": base_dir}),
        )
        return {**InstanceRef.config_defaults(base_dir), "storage": storage}


class PooledSqliteStorage(DagsterSqliteStorage):
    """Runs, schedules and events in SQLite files under one folder, where Dagster's are."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None):
        with _alone_in(base_dir):
            super().__init__(base_dir, inst_data)
            self._event_log_storage = PooledEventLog(_event_logs_directory(base_dir))

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "PooledSqliteStorage":
        """Open it where ``base_dir`` says."""
        return cls.from_local(inst_data=inst_data, **config_value)


@contextmanager
def _alone_in(folder: str) -> Iterator[None]:
    """Keep other processes and threads that do the same waiting.

    Dagster looks whether there are tables, and then makes them; of two processes that open
    a new folder at once both did, and it could not be opened ever after.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
