"""A small store of records with versions: the module that the others build on, and the only one with a lock."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Record:
    """One value under its key. The version grows by one with each change, so that two writers notice each other."""

    key: str
    value: str
    version: int = 0


@dataclass
class Store:
    """Records in memory. Reads never wait; a write is checked against the version that it was made from."""

    records: dict[str, Record] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, key: str) -> Record:
        """The record, or an empty one of version 0, so that the first write is a write like any other."""
        return self.records.get(key, Record(key, ""))

    def write(self, record: Record) -> Record:
        """Store a changed record; raises when somebody else has changed it since it was read."""
        with self.lock:
            stored = self.read(record.key)
            if stored.version != record.version:
                raise RuntimeError(f"{record.key}: version {record.version} was expected, {stored.version} is there")
            written = replace(record, version=record.version + 1)
            self.records[record.key] = written
            return written

    def change(self, key: str, edit: Callable[[str], str], *, attempts: int = 3) -> Record:
        """Read, edit and write, again after a conflict, at most that many times before the error is shown."""
        for attempt in range(attempts):
            record = self.read(key)
            try:
                return self.write(replace(record, value=edit(record.value)))
            except RuntimeError:
                if attempt == attempts - 1:
                    raise
        raise AssertionError("unreachable")

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Keys under a prefix, in order, as they are now; later changes are not seen by this step."""
        return iter(sorted(key for key in list(self.records) if key.startswith(prefix)))
