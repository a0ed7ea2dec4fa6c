"""Memory does what every storage does."""

import pytest

from curation.storage import MemoryStorage, Storage
from curation.testing.storage_contract import CreatesContract


class TestMemoryStorage(CreatesContract):
    @pytest.fixture
    def storage(self) -> MemoryStorage:
        return MemoryStorage()

    def put(self, storage: Storage, path: str, data: bytes) -> None:
        assert isinstance(storage, MemoryStorage)
        storage.files[path] = (data, hash(data))

    def get(self, storage: Storage, path: str) -> bytes | None:
        assert isinstance(storage, MemoryStorage)
        return storage.files[path][0] if path in storage.files else None
