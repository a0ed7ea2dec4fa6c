"""What NumPy writes is read, row by row, and nothing else is."""

import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation import npy
from curation.errors import NotFoundError, StaleError, TableError
from curation.npy import (
    map_npy,
    npy_writer,
    parse_npy,
    read_npy_header,
    read_npy_rows,
    read_npy_scattered,
    write_npy,
)
from curation.storage import LocalStorage, MemoryStorage

FLOATS = [np.dtype(name) for name in ("<f2", "<f4", "<f8", ">f4")]


def saved(array: np.ndarray, **kwargs: bool) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **kwargs)
    return buffer.getvalue()


def stored(data: bytes) -> MemoryStorage:
    storage = MemoryStorage()
    storage.write("a.npy", data)
    return storage


arrays = st.sampled_from(FLOATS).flatmap(
    lambda dtype: npst.arrays(
        dtype,
        npst.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=9),
        elements={"allow_nan": False},
    )
)


@given(arrays, st.data())
def test_reads_any_rows_of_what_numpy_saved(array: np.ndarray, data: st.DataObject) -> None:
    storage = stored(saved(array))
    header = read_npy_header(storage, "a.npy")
    assert (header.num_rows, header.dim) == array.shape and header.dtype == array.dtype
    stop = data.draw(st.integers(0, len(array)))
    start = data.draw(st.integers(0, stop))
    rows = read_npy_rows(storage, "a.npy", header, start, stop)
    assert rows.shape == (stop - start, array.shape[1])
    np.testing.assert_array_equal(rows, array[start:stop])
    np.testing.assert_array_equal(parse_npy(saved(array), "a.npy"), array)


@given(arrays)
def test_numpy_reads_what_is_written(array: np.ndarray) -> None:
    storage = MemoryStorage()
    write_npy(storage, "a.npy", array)
    found = np.load(io.BytesIO(storage.read("a.npy")), allow_pickle=False)
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype


def test_a_local_file_is_mapped_not_read(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.save(tmp_path / "a.npy", array)
    storage = LocalStorage(tmp_path)
    mapped = map_npy(storage, "a.npy", read_npy_header(storage, "a.npy"))
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, array)


def test_rows_are_written_as_they_come() -> None:
    storage = MemoryStorage()
    dtype = np.dtype(np.float16)
    with npy_writer(storage, "a.npy", 3, 2, dtype) as writer:
        writer.write(np.ones((2, 2), dtype))
        writer.write(np.zeros((1, 2), dtype))
    found = np.load(io.BytesIO(storage.read("a.npy")))
    np.testing.assert_array_equal(found, [[1, 1], [1, 1], [0, 0]])


def test_another_number_of_rows_than_promised_leaves_no_file() -> None:
    storage = MemoryStorage()
    with (
        pytest.raises(TableError, match="3 rows were to be written, 1 were"),
        npy_writer(storage, "a.npy", 3, 2, np.dtype(np.float16)) as writer,
    ):
        writer.write(np.ones((1, 2), np.float16))
    assert not storage.exists("a.npy")


@pytest.mark.parametrize("rows", [np.ones((1, 3), "f2"), np.ones((1, 2), "f4")])
def test_rows_of_another_kind_are_refused(rows: np.ndarray) -> None:
    with (
        pytest.raises(TableError, match=r"rows of this file are \(n, 2\) float16"),
        npy_writer(MemoryStorage(), "a.npy", 3, 2, np.dtype(np.float16)) as writer,
    ):
        writer.write(rows)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not an .npy file"),
        (b"\x93NUMPY\x01\x00", "not an .npy file"),
        (b"PK\x03\x04 an archive", "not an .npy file"),
        (saved(np.array([object()], dtype=object), allow_pickle=True), "expected floats"),
        (saved(np.ones((2, 2), np.int32)), "expected floats"),
        (saved(np.ones(4, np.float32)), r"expected an array \(rows, dim\)"),
        (saved(np.asfortranarray(np.ones((2, 3)))), "Fortran order"),
        (saved(np.ones((2, 3)))[:-1], "promises 176 bytes, there are 175"),
        (saved(np.ones((2, 3))) + b"x", "promises 176 bytes, there are 177"),
    ],
)
def test_what_is_no_file_of_vectors_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(TableError, match=reason):
        read_npy_header(stored(data), "a.npy")


def test_every_cut_of_a_file_is_an_error() -> None:
    data = saved(np.ones((3, 2), np.float16))
    for size in range(len(data)):
        with pytest.raises(TableError, match=r"a\.npy"):
            read_npy_header(stored(data[:size]), "a.npy")


def test_no_two_threads_parse_headers_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # what happens otherwise (a SystemError of ast) comes once in some 1500 headers
    parse, parsing, most = npy._PARSERS[1, 0], set[int](), []

    def watched(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
        parsing.add(threading.get_ident())
        time.sleep(0.001)
        most.append(len(parsing))
        parsing.remove(threading.get_ident())
        return parse(file)

    monkeypatch.setitem(npy._PARSERS, (1, 0), watched)
    storage = LocalStorage(tmp_path)
    np.save(tmp_path / "part.npy", np.zeros((10, 4), np.float16))
    with ThreadPoolExecutor(16) as pool:
        rows = pool.map(lambda _: read_npy_header(storage, "part.npy").num_rows, range(100))
        assert set(rows) == {10}
    assert most == [1] * 100


def test_a_missing_file_is_not_found() -> None:
    with pytest.raises(NotFoundError):
        read_npy_header(MemoryStorage(), "a.npy")


@pytest.mark.parametrize("shape", ["(" * 90, "1" * 5000, "2, 2), 'x': (", "\t\x00"])
def test_a_header_that_its_parser_gives_up_on_is_one_error(shape: str) -> None:
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}".encode()
    with pytest.raises(TableError, match=r"a\.npy: not an \.npy file"):
        parse_npy(b"\x93NUMPY\1\0" + len(head).to_bytes(2, "little") + head, "a.npy")


@pytest.mark.parametrize(
    "shape", ["0, True", "1" * 30 + ", 0", "4611686018427387904, 4, 0", "-1, 0"]
)
def test_a_shape_that_no_array_has_is_one_error(shape: str) -> None:
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape})}}\n".encode()
    with pytest.raises(TableError, match=r"a\.npy: a shape can't be"):
        parse_npy(b"\x93NUMPY\1\0" + len(head).to_bytes(2, "little") + head, "a.npy")


def test_a_file_that_was_replaced_since_its_header_was_read_is_not_read_on(
    tmp_path: Path,
) -> None:
    for storage in (LocalStorage(tmp_path), MemoryStorage()):
        storage.write("a.npy", saved(np.ones((4, 3), np.float16)))
        header = read_npy_header(storage, "a.npy")
        storage.write("a.npy", saved(np.zeros((4, 3), np.float16)))
        for read in (
            lambda s=storage, h=header: read_npy_rows(s, "a.npy", h, 1, 2),
            lambda s=storage, h=header: map_npy(s, "a.npy", h),
            lambda s=storage, h=header: read_npy_scattered(s, "a.npy", h, np.array([0, 3])),
        ):
            with pytest.raises(StaleError, match=r"a\.npy: .* replaced"):
                read()
