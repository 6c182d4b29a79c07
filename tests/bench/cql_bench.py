"""The CQL server of the parts that need one: started when the first of them asks, and shared by all, since a start takes as long
as what some of them measure.
"""

from pathlib import Path
from types import TracebackType
from typing import Self

from services.order_history.stores.cql_schema import apply_schema
from services.order_history.stores.cql_settings import CqlSettings, parse_cql_address
from tests.support.cql_server import CommitlogSync, CqlNode
from tests.support.store_kinds import empty_tables


class CqlBench:
    """One node with its files in ``folder``. Whoever asks for it where it cannot be had gets CqlServerMissing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._node: CqlNode | None = None
        self._sync: CommitlogSync | None = None
        self._made: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._node is not None:
            self._node.stop_now()

    @property
    def contact_point(self) -> str:
        """IP:PORT of the node."""
        assert self._node is not None, "the node runs from the first run_with on"
        return self._node.contact_point

    def run_with(self, sync: CommitlogSync) -> None:
        """Have the node run and sync its commit log so from now on; another way than before takes a start."""
        if self._node is not None:
            if sync == self._sync:
                return
            self._node.stop()
        node = CqlNode(self._folder, port=self._node and self._node.port, commitlog_sync=sync)
        try:
            node.start()
        except BaseException:
            node.stop_now()
            raise
        self._node, self._sync = node, sync

    def address(self, keyspace: str) -> str:
        """A store's address in a keyspace of this node. Whatever the server has acknowledged counts as safe at once."""
        return f"scylla://{self.contact_point}/{keyspace}?timeout_seconds=60&safe_seconds=0"

    def emptied(self, keyspace: str) -> CqlSettings:
        """The settings of that keyspace, which has all tables and no row."""
        settings = parse_cql_address(self.address(keyspace))
        if keyspace in self._made:
            empty_tables(settings)
        else:
            apply_schema(settings)
            self._made.add(keyspace)
        return settings

    def bytes_of(self, keyspace: str) -> int:
        """What the keyspace has on the disk, all of it written down and merged as far as the node does that by itself."""
        assert self._node is not None, "the node runs from the first run_with on"
        self._node.stop()
        tables = self._folder / "data" / keyspace
        size = sum(path.stat().st_size for path in tables.rglob("*") if path.is_file() and "snapshots" not in path.parts)
        self._node.start()
        return size
