"""Parts belong together by number, have one type, and read as one table."""

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.embedding_parts import open_embedding_parts, with_captions
from curation.errors import InputError, TableError
from curation.testing.embedding_folders import (
    DIM,
    captions,
    save_captions,
    save_parts,
    vectors,
)

SIZES = (5, 0, 11, 1, 8)
ROWS = vectors(sum(SIZES))
TEXTS = captions(sum(SIZES))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("set")
    save_parts(top / "img_emb", ROWS, SIZES)
    save_captions(top / "metadata", TEXTS, SIZES)
    return top


@given(st.data())
def test_any_rows_are_those_of_the_parts_end_to_end(
    folder: Path, data: st.DataObject
) -> None:
    parts = with_captions(
        open_embedding_parts(str(folder / "img_emb")), str(folder / "metadata")
    )
    stop = data.draw(st.integers(0, len(ROWS)))
    start = data.draw(st.integers(0, stop))
    found = parts.read(start, stop)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, ROWS[start:stop].astype(np.float32))
    assert parts.read_captions(start, stop) == TEXTS[start:stop]


def test_says_what_embedding_reader_says_of_a_folder(folder: Path) -> None:
    parts = open_embedding_parts(str(folder / "img_emb"))
    assert (parts.count, parts.dimension, parts.byte_per_item) == (len(ROWS), DIM, 2 * DIM)
    assert parts.total_size == ROWS.nbytes


def test_rows_that_are_not_there_are_an_error(folder: Path) -> None:
    parts = open_embedding_parts(str(folder / "img_emb"))
    with pytest.raises(InputError, match="rows 20 to 26 were asked for; there are 25"):
        parts.read(20, 26)


def test_unpadded_part_numbers_sort_as_numbers(tmp_path: Path) -> None:
    sizes = [2] * 12
    rows = vectors(24)
    parts = open_embedding_parts(str(save_parts(tmp_path / "img_emb", rows, sizes)))
    assert parts.numbers == tuple(range(12))
    np.testing.assert_array_equal(parts.read(0, 24), rows.astype(np.float32))


def test_a_missing_metadata_part_is_an_error_not_a_shift(tmp_path: Path) -> None:
    images = save_parts(tmp_path / "img_emb", vectors(9), [3, 3, 3])
    metadata = save_captions(tmp_path / "metadata", captions(9), [3, 3, 3])
    (metadata / "metadata_1.parquet").unlink()
    with pytest.raises(TableError, match=r"no partner .*img_emb_1\.npy"):
        with_captions(open_embedding_parts(str(images)), str(metadata))


def test_row_counts_of_partners_are_compared(tmp_path: Path) -> None:
    images = save_parts(tmp_path / "img_emb", vectors(6), [3, 3])
    metadata = save_captions(tmp_path / "metadata", captions(6), [4, 2])
    with pytest.raises(TableError, match=r"img_emb_0\.npy has 3 rows.*metadata_0.* has 4"):
        with_captions(open_embedding_parts(str(images)), str(metadata))


def test_an_empty_part_does_not_shift_the_captions(tmp_path: Path) -> None:
    images = save_parts(tmp_path / "img_emb", vectors(6), [3, 0, 3])
    metadata = save_captions(tmp_path / "metadata", captions(6), [3, 0, 3])
    parts = with_captions(open_embedding_parts(str(images)), str(metadata))
    assert parts.read_captions(2, 4) == ["caption 2", "caption 3"]


def test_two_dtypes_in_a_folder_are_an_error_not_garbage(tmp_path: Path) -> None:
    images = save_parts(tmp_path / "img_emb", vectors(3), [3])
    np.save(images / "img_emb_1.npy", vectors(3, dtype="float64"))
    with pytest.raises(TableError, match=r"img_emb_1\.npy holds 8 x float64.*8 x float16"):
        open_embedding_parts(str(images))


def test_another_width_is_an_error(tmp_path: Path) -> None:
    images = save_parts(tmp_path / "img_emb", vectors(3), [3])
    np.save(images / "img_emb_1.npy", np.ones((2, 9), np.float16))
    with pytest.raises(TableError, match="9 x float16"):
        open_embedding_parts(str(images))


def test_a_part_cut_short_is_an_error(tmp_path: Path) -> None:
    images = save_parts(tmp_path / "img_emb", vectors(30), [30])
    file = images / "img_emb_0.npy"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(TableError, match="cut short"):
        open_embedding_parts(str(images))


def test_stray_files_are_ignored(tmp_path: Path) -> None:
    images = save_parts(tmp_path / "img_emb", vectors(6), [3, 3])
    (images / "README.txt").write_text("stray")
    assert open_embedding_parts(str(images)).count == 6


def test_an_empty_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no \.npy file"):
        open_embedding_parts(str(tmp_path))


def test_a_file_without_a_number_is_an_error_unless_alone(tmp_path: Path) -> None:
    images = save_parts(tmp_path / "img_emb", vectors(3), [3], ["all"])
    assert open_embedding_parts(str(images)).count == 3
    np.save(images / "img_emb_1.npy", vectors(3))
    with pytest.raises(InputError, match=r"all\.npy: expected a part's number"):
        open_embedding_parts(str(images))


def test_two_files_of_one_number_are_an_error(tmp_path: Path) -> None:
    save_parts(tmp_path / "img_emb", vectors(6), [3, 3])
    save_parts(tmp_path / "text_emb", vectors(6), [3, 3])
    with pytest.raises(InputError, match="both part 0; give the folder of one kind"):
        open_embedding_parts(str(tmp_path))


def test_a_folder_without_captions_names_its_columns(tmp_path: Path) -> None:
    images = save_parts(tmp_path / "img_emb", vectors(2), [2])
    table = pa.table({"image_path": ["a", "b"], "text": ["c", "d"]})
    (tmp_path / "metadata").mkdir()
    pq.write_table(table, tmp_path / "metadata/metadata_0.parquet")
    with pytest.raises(TableError, match="no column 'caption'; found image_path, text"):
        with_captions(open_embedding_parts(str(images)), str(tmp_path / "metadata"))


def test_what_is_no_parquet_file_is_an_error(tmp_path: Path) -> None:
    images = save_parts(tmp_path / "img_emb", vectors(2), [2])
    (tmp_path / "metadata_0.parquet").write_bytes(b"PAR1 no table")
    with pytest.raises(TableError, match="not a Parquet file"):
        with_captions(open_embedding_parts(str(images)), str(tmp_path))


def test_of_metadata_nothing_but_captions_is_read(tmp_path: Path) -> None:
    images = save_parts(tmp_path / "img_emb", vectors(3), [3])
    file = tmp_path / "metadata_0.parquet"
    long = pa.array(["x" * 1000, "y" * 1000, "z" * 1000])
    table = pa.table({"before": long, "caption": ["a", "b", "c"], "after": long})
    pq.write_table(table, file, compression="none", use_dictionary=False)
    damaged = file.read_bytes()
    for letter in (b"x", b"y", b"z"):  # whoever reads these columns finds no text
        damaged = damaged.replace(letter * 1000, b"\xff" * 1000)
    file.write_bytes(damaged)
    with pytest.raises((pa.ArrowException, UnicodeDecodeError)):
        pq.read_table(file).validate(full=True)
    parts = with_captions(open_embedding_parts(str(images)), str(tmp_path))
    assert parts.read_captions(0, 3) == ["a", "b", "c"]


def test_a_null_caption_is_an_empty_one(tmp_path: Path) -> None:
    images = save_parts(tmp_path / "img_emb", vectors(2), [2])
    metadata = save_captions(tmp_path / "metadata", ["one", None], [2])
    parts = with_captions(open_embedding_parts(str(images)), str(metadata))
    assert parts.read_captions(0, 2) == ["one", ""]


def test_a_reader_can_be_sent_to_another_process(folder: Path) -> None:
    parts = with_captions(
        open_embedding_parts(str(folder / "img_emb")), str(folder / "metadata")
    )
    parts.read(0, 9)
    parts.read_captions(0, 9)
    small = pickle.dumps(parts)
    assert len(small) < 5000
    assert pickle.loads(small).read_captions(3, 6) == TEXTS[3:6]
