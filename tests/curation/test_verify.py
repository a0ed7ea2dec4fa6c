"""Verification finds every kind of difference."""

from collections.abc import Callable

import pytest

from curation.errors import InputError
from curation.storage import LocalStorage, MemoryStorage
from curation.tables import FILTERED, read_table, write_table
from curation.verify import verify_shards
from tests.conftest import Curated

TAR, IDX, TABLE = (f"small/00000.{suffix}" for suffix in ("tar", "idx", "parquet"))


@pytest.fixture
def filtered(curated: Curated) -> LocalStorage:
    return LocalStorage(curated.output.root / "filtered")


def cut(storage: LocalStorage) -> None:
    storage.write(TAR, storage.read(TAR)[:-2000])


def swap_keys(storage: LocalStorage) -> None:
    table = read_table(storage, TABLE, FILTERED)
    order = [1, 0, *range(2, table.num_rows)]
    write_table(storage, TABLE, FILTERED, table.take(order), fingerprint="x")


def lose_a_row(storage: LocalStorage) -> None:
    table = read_table(storage, TABLE, FILTERED)
    write_table(storage, TABLE, FILTERED, table.slice(1), fingerprint="x")


def test_what_a_run_wrote_is_right(filtered: LocalStorage) -> None:
    done = verify_shards(filtered)
    assert done.differences == ()
    tars = list(filtered.root.rglob("*.tar"))
    assert done.num_bytes == sum(tar.stat().st_size for tar in tars)


@pytest.mark.parametrize(
    ("harm", "path", "found"),
    [
        (cut, TAR, "byte"),
        (lambda s: s.write(IDX, b"v1.2 0\n"), IDX, "not the index of its tar"),
        (lambda s: s.delete(IDX), IDX, "missing"),
        (lambda s: s.delete(TABLE), TABLE, "missing"),
        (lambda s: s.write(TABLE, b"PAR1"), TABLE, "not a table"),
        (swap_keys, TABLE, "row 0 is of"),
        (lose_a_row, TABLE, "rows, its tar"),
    ],
)
def test_every_difference_is_named_with_its_file(
    filtered: LocalStorage,
    harm: Callable[[LocalStorage], None],
    path: str,
    found: str,
) -> None:
    harm(filtered)
    (difference,) = verify_shards(filtered).differences
    assert difference.path == path
    assert found in difference.found


def test_no_tars_are_no_success() -> None:
    with pytest.raises(InputError, match=r"no \.tar file"):
        verify_shards(MemoryStorage("empty"), "nowhere")
