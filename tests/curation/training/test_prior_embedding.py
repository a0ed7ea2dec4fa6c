"""The prior's loaders: the README's splits and batches, without the original's faults."""

import multiprocessing
import random
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from curation.embedding_parts import EmbeddingParts, open_embedding_parts
from curation.errors import InputError, TableError
from curation.storage import LocalStorage, S3Storage
from curation.testing.embedding_folders import (
    DIM,
    captions,
    save_captions,
    save_parts,
    vectors,
)
from curation.training import PriorEmbeddingDataset, get_reader, make_splits
from curation.training.prior_embedding import PriorLoader

COUNT = 10_000
SIZES = (4000, 1, 5999)
ROWS = vectors(COUNT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("prior")
    save_parts(top / "img_emb", ROWS, SIZES)
    save_parts(top / "text_emb", vectors(COUNT, seed=1), SIZES)
    save_captions(top / "meta", captions(COUNT), SIZES, group=1000)
    return top


@pytest.fixture(scope="module")
def reader(folder: Path) -> EmbeddingParts:
    found = get_reader(True, str(folder / "img_emb"), str(folder / "meta"))
    assert isinstance(found, EmbeddingParts)
    return found


@pytest.fixture(scope="module")
def readers(folder: Path) -> dict[str, EmbeddingParts]:
    found = get_reader(False, str(folder / "img_emb"), txt_url=str(folder / "text_emb"))
    assert isinstance(found, tuple)
    return {"image_reader": found[0], "text_reader": found[1]}


def row_numbers(texts: Sequence[str]) -> torch.Tensor:
    """Stand in for a tokenizer: give the number in each caption."""
    return torch.tensor([[int(text.split()[-1])] for text in texts])


def rows_of(loader: Any) -> list[int]:
    return [int(row) for _, numbers in loader for row in numbers[:, 0]]


def test_the_readme_s_snippet(folder: Path) -> None:
    reader = get_reader(
        text_conditioned=True,
        img_url=f"{folder}/img_emb/",
        meta_url=f"{folder}/meta/",
    )
    train_args: dict[str, Any] = {
        "world_size": 3,
        "text_conditioned": True,
        "start": 0,
        "num_data_points": 10000,
        "batch_size": 2,
        "train_split": 0.5,
        "eval_split": 0.25,
        "image_reader": reader,
    }
    ranges = [
        [(loader.dataset.start, loader.dataset.stop) for loader in loaders]
        for loaders in (
            make_splits(rank=rank, even=False, **train_args) for rank in range(3)
        )
    ]
    assert ranges == [
        [(0, 1667), (5000, 5834), (7500, 8334)],
        [(1667, 3334), (5834, 6668), (8334, 9168)],
        [(3334, 5000), (6668, 7500), (9168, 10000)],
    ]
    train, _, _ = make_splits(rank=1, **train_args)
    assert isinstance(train, DataLoader)
    images, tokens = next(iter(train))
    assert images.shape == (2, DIM) and images.dtype == torch.float32
    assert tokens.shape == (2, 77) and tokens.dtype == torch.int64


def test_batches_hold_the_rows_in_order_and_the_last_is_short(
    readers: dict[str, EmbeddingParts],
) -> None:
    dataset = PriorEmbeddingDataset(False, 256, 100, 1500, **readers)
    batches = list(dataset)
    assert [len(images) for images, _ in batches] == [256] * 5 + [120]
    images = torch.cat([images for images, _ in batches])
    texts = torch.cat([texts for _, texts in batches])
    assert images.dtype == texts.dtype == torch.float32
    np.testing.assert_array_equal(images, ROWS[100:1500].astype(np.float32))
    expected = vectors(COUNT, seed=1)[100:1500].astype(np.float32)
    np.testing.assert_array_equal(texts, expected)


def test_values_are_as_stored_and_not_normalised(
    readers: dict[str, EmbeddingParts],
) -> None:
    images, _ = next(iter(PriorEmbeddingDataset(False, 3, 0, 3, **readers)))
    assert images[0].norm() != pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("batch_size", [1, 7, 256, 3000])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_every_row_comes_once_with_its_own_caption(
    reader: EmbeddingParts, batch_size: int, num_workers: int
) -> None:
    dataset = PriorEmbeddingDataset(
        True, batch_size, 3990, 6100, reader, tokenizer=row_numbers
    )
    loader = PriorLoader(dataset, num_workers)
    found = list(loader)
    assert len(loader) == len(found)
    rows = torch.cat([numbers[:, 0] for _, numbers in found])
    assert rows.tolist() == list(range(3990, 6100))
    images = torch.cat([images for images, _ in found])
    np.testing.assert_array_equal(images, ROWS[3990:6100].astype(np.float32))


def test_a_plain_dataloader_with_workers_gives_every_row_once(
    reader: EmbeddingParts,
) -> None:
    dataset = PriorEmbeddingDataset(True, 100, 0, 5000, reader, tokenizer=row_numbers)
    loader = DataLoader(dataset, batch_size=None, num_workers=2)
    assert sorted(rows_of(loader)) == list(range(5000))


def test_tokenizing_happens_in_worker_processes(reader: EmbeddingParts) -> None:
    def names(texts: Sequence[str]) -> torch.Tensor:
        here = multiprocessing.parent_process() is None
        return torch.full((len(texts), 1), int(here))

    dataset = PriorEmbeddingDataset(True, 10, 0, 40, reader, tokenizer=names)
    assert rows_of(PriorLoader(dataset, 1)) == [0] * 40
    assert rows_of(PriorLoader(dataset, 0)) == [1] * 40


def test_captions_are_tokenized_by_workers_unless_told_otherwise(
    reader: EmbeddingParts, readers: dict[str, EmbeddingParts]
) -> None:
    args: dict[str, Any] = {"num_data_points": 100, "train_split": 0.5, "eval_split": 0.3}
    assert make_splits(True, 2, image_reader=reader, **args)[0].num_workers > 0
    assert make_splits(False, 2, **readers, **args)[0].num_workers == 0


def test_leaving_a_loop_early_does_not_hang(reader: EmbeddingParts) -> None:
    before = set(threading.enumerate())
    for num_workers in (0, 2):
        dataset = PriorEmbeddingDataset(True, 1, 0, COUNT, reader, tokenizer=row_numbers)
        for _ in PriorLoader(dataset, num_workers):
            break
        next(iter(PriorLoader(dataset, num_workers)))
        iterator = iter(PriorLoader(dataset, num_workers))
        next(iterator)
        del iterator
    for thread in set(threading.enumerate()) - before:  # one that feeds a queue may linger
        thread.join(10)
        assert not thread.is_alive(), thread
    assert not multiprocessing.active_children()


def test_start_moves_all_three_splits(readers: dict[str, EmbeddingParts]) -> None:
    splits = make_splits(False, 2, 8000, 0.5, 0.25, **readers, start=1000)
    ranges = [(loader.dataset.start, loader.dataset.stop) for loader in splits]
    assert ranges == [(1000, 5000), (5000, 7000), (7000, 9000)]


def test_a_start_past_the_train_split_is_no_error(
    readers: dict[str, EmbeddingParts],
) -> None:
    splits = make_splits(False, 2, 1000, 0.5, 0.25, **readers, start=9000)
    assert [loader.dataset.start for loader in splits] == [9000, 9500, 9750]


def test_more_points_than_there_are_means_all_from_start(
    readers: dict[str, EmbeddingParts], caplog: pytest.LogCaptureFixture
) -> None:
    splits = make_splits(False, 2, 50_000, 0.5, 0.25, **readers, start=2000)
    ranges = [(loader.dataset.start, loader.dataset.stop) for loader in splits]
    assert ranges == [(2000, 6000), (6000, 8000), (8000, 10000)]
    assert "only 8000 rows are there" in caplog.text


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"train_split": 0.75}, "less than 1"),
        ({"start": 10_000}, "start=10000: the reader has rows 0 to 10000"),
        ({"rank": 2, "world_size": 2}, "rank 2 is not one of world_size=2"),
        ({"num_data_points": 4, "rank": 3, "world_size": 4}, "rank 3 of 4 would have no"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"num_data_points": 0}, "num_data_points=0"),
    ],
)
def test_a_split_that_cannot_be_made_says_why(
    readers: dict[str, EmbeddingParts], wrong: dict[str, Any], message: str
) -> None:
    args: dict[str, Any] = {
        "text_conditioned": False,
        "batch_size": 2,
        "num_data_points": 100,
        "train_split": 0.5,
        "eval_split": 0.25,
    }
    with pytest.raises(InputError, match=message):
        make_splits(**(args | wrong), **readers)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: get_reader(True, ""), "img_url"),
        (lambda f: get_reader(True, f"{f}/img_emb"), "meta_url"),
        (lambda f: get_reader(False, f"{f}/img_emb"), "txt_url"),
    ],
)
def test_a_missing_url_is_named(folder: Path, call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(folder)


def test_captions_need_a_reader_that_was_opened_with_them(folder: Path) -> None:
    images = open_embedding_parts(str(folder / "img_emb"))
    with pytest.raises(InputError, match="reader with captions"):
        PriorEmbeddingDataset(True, 2, 0, 10, images)
    with pytest.raises(InputError, match="text_reader is missing"):
        PriorEmbeddingDataset(False, 2, 0, 10, images)


def test_image_and_text_parts_are_compared(folder: Path, tmp_path: Path) -> None:
    save_parts(tmp_path / "text_emb", vectors(COUNT), (4000, 2, 5998))
    with pytest.raises(TableError, match=r"img_emb_1\.npy has 1 rows.*text_emb_1\.npy has"):
        get_reader(False, str(folder / "img_emb"), txt_url=str(tmp_path / "text_emb"))


def test_set_start_stays_in_the_rank_s_own_rows(
    readers: dict[str, EmbeddingParts],
) -> None:
    train, _, _ = make_splits(False, 10, COUNT, 0.5, 0.25, **readers, rank=1, world_size=2)
    train.dataset.set_start(0)  # what the original's trainer does at the next epoch
    assert (train.dataset.get_start(), train.dataset.stop) == (2500, 5000)
    train.dataset.set_start(2600)
    assert len(train.dataset) == 2400 and len(train) == 240
    np.testing.assert_array_equal(next(iter(train))[0][0], ROWS[2600].astype(np.float32))


def test_set_start_past_the_end_is_an_error_not_an_empty_epoch(
    readers: dict[str, EmbeddingParts],
) -> None:
    train, _, _ = make_splits(False, 10, COUNT, 0.5, 0.25, **readers)
    with pytest.raises(InputError, match="0 to 5000"):
        train.dataset.set_start(5000)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("taken", [0, 1, 150, 420, 421])
def test_an_epoch_goes_on_where_its_state_was_taken(
    reader: EmbeddingParts, num_workers: int, taken: int
) -> None:
    def loader() -> PriorLoader:
        dataset = PriorEmbeddingDataset(True, 5, 1000, 3103, reader, tokenizer=row_numbers)
        return PriorLoader(dataset, num_workers)

    first, seen = loader(), []
    iterator = iter(first)
    for _ in range(taken):
        seen += next(iterator)[1][:, 0].tolist()
    state = first.state_dict()
    again = loader()
    again.load_state_dict(state)
    expected = range(1000, 3103)
    if taken == len(first):  # the epoch was over: the next one begins
        assert rows_of(again) == list(expected)
    else:
        assert seen + rows_of(again) == list(expected)
        assert rows_of(again) == list(expected)


def test_a_state_of_other_rows_is_refused(readers: dict[str, EmbeddingParts]) -> None:
    args: dict[str, Any] = {"world_size": 2, **readers}
    one, _, _ = make_splits(False, 10, COUNT, 0.5, 0.25, rank=0, **args)
    other, _, _ = make_splits(False, 10, COUNT, 0.5, 0.25, rank=1, **args)
    with pytest.raises(InputError, match="another split, rank or world size"):
        other.load_state_dict(one.state_dict())


@pytest.mark.parametrize("num_workers", [0, 2])
def test_reads_from_a_web_server_in_any_process(
    folder: Path, serve_http: Callable[[Path], str], num_workers: int
) -> None:
    url = serve_http(folder)
    reader = get_reader(True, f"{url}/img_emb/", f"{url}/meta")
    assert isinstance(reader, EmbeddingParts)
    reader.read(0, 1)  # connects here; workers need connections of their own
    dataset = PriorEmbeddingDataset(True, 100, 3500, 4500, reader, tokenizer=row_numbers)
    batches = list(PriorLoader(dataset, num_workers))
    images = torch.cat([images for images, _ in batches])
    np.testing.assert_array_equal(images, ROWS[3500:4500].astype(np.float32))
    assert rows_of(batches) == list(range(3500, 4500))


def test_reads_from_s3(
    folder: Path, s3_storage: S3Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in LocalStorage(folder).list_files():
        s3_storage.write(path.path, (folder / path.path).read_bytes())
    assert s3_storage.settings.endpoint_url is not None
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_storage.settings.endpoint_url)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    reader = get_reader(True, f"{s3_storage.url}/img_emb", f"{s3_storage.url}/meta")
    assert isinstance(reader, EmbeddingParts)
    dataset = PriorEmbeddingDataset(True, 100, 3900, 4100, reader, tokenizer=row_numbers)
    assert rows_of(PriorLoader(dataset, 2)) == list(range(3900, 4100))


@pytest.fixture
def with_zero_rows(tmp_path: Path) -> EmbeddingParts:
    rows = vectors(20)
    rows[[3, 8, 9, 10, 11]] = 0
    save_parts(tmp_path / "img_emb", rows, [20])
    save_captions(tmp_path / "meta", captions(20), [20])
    found = get_reader(True, str(tmp_path / "img_emb"), str(tmp_path / "meta"))
    assert isinstance(found, EmbeddingParts)
    return found


def test_a_row_of_zeros_is_an_error_unless_asked_for(
    with_zero_rows: EmbeddingParts,
) -> None:
    dataset = PriorEmbeddingDataset(True, 4, 0, 20, with_zero_rows, tokenizer=row_numbers)
    with pytest.raises(TableError, match="row 3 is all zeros"):
        list(dataset)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_rows_of_zeros_can_be_skipped_and_are_counted(
    with_zero_rows: EmbeddingParts, num_workers: int
) -> None:
    dataset = PriorEmbeddingDataset(
        True, 4, 0, 20, with_zero_rows, tokenizer=row_numbers, missing="skip"
    )
    loader = PriorLoader(dataset, num_workers)
    batches = [numbers[:, 0].tolist() for _, numbers in loader]
    assert batches == [[0, 1, 2], [4, 5, 6, 7], [12, 13, 14, 15], [16, 17, 18, 19]]
    assert loader.num_missing == 5


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["img_emb", "text_emb"])
def test_rows_that_are_not_finite_are_no_vectors(
    tmp_path: Path, value: float, side: str
) -> None:
    for folder in ("img_emb", "text_emb"):
        rows = vectors(20)
        rows[7, DIM - 1] = value if folder == side else 1
        save_parts(tmp_path / folder, rows, [20])
    found = get_reader(False, f"{tmp_path}/img_emb", txt_url=f"{tmp_path}/text_emb")
    assert isinstance(found, tuple)
    with pytest.raises(TableError, match="row 7 has NaN or infinite values"):
        list(PriorEmbeddingDataset(False, 4, 0, 20, *found))
    loader = PriorLoader(PriorEmbeddingDataset(False, 4, 0, 20, *found, missing="skip"))
    batches = list(loader)
    assert [len(images) for images, _ in batches] == [4, 3, 4, 4, 4]
    assert all(torch.isfinite(torch.cat(batch)).all() for batch in batches)
    assert loader.num_missing == 1
    kept = PriorEmbeddingDataset(False, 4, 0, 20, *found, missing="keep")
    assert sum(len(images) for images, _ in kept) == 20


def test_rows_of_zeros_can_be_kept(with_zero_rows: EmbeddingParts) -> None:
    dataset = PriorEmbeddingDataset(
        True, 4, 0, 20, with_zero_rows, tokenizer=row_numbers, missing="keep"
    )
    assert rows_of(dataset) == list(range(20))


@given(
    num_rows=st.integers(12, 60),
    world_size=st.integers(2, 4),
    batch_size=st.integers(1, 5),
    chance=st.randoms(use_true_random=False),
    share=st.sampled_from([0.0, 0.3, 0.9]),
)
def test_ranks_have_as_many_batches_whatever_vectors_are_missing(
    tmp_path_factory: pytest.TempPathFactory,
    num_rows: int,
    world_size: int,
    batch_size: int,
    chance: random.Random,
    share: float,
) -> None:
    folder = tmp_path_factory.mktemp("ranks")
    rows = np.arange(1, num_rows + 1, dtype=np.float32).repeat(DIM).reshape(-1, DIM)
    missing = {row for row in range(num_rows) if chance.random() < share}
    thirds = [range(start, start + num_rows // 3) for start in (0, num_rows // 3)]
    thirds.append(range(thirds[1].stop, num_rows))
    missing -= {chance.choice(rows) for rows in thirds}  # one at least is there of each
    rows[list(missing)] = 0
    save_parts(folder / "img_emb", rows, [num_rows])
    found = get_reader(False, f"{folder}/img_emb", txt_url=f"{folder}/img_emb")
    assert isinstance(found, tuple)
    third = num_rows // 3 / num_rows + 1e-9
    splits = [
        make_splits(
            *(False, batch_size, num_rows, third, third, *found),
            rank=rank,
            world_size=world_size,
            missing="skip",
        )
        for rank in range(world_size)
    ]
    for wanted, loaders in zip(thirds, zip(*splits, strict=True), strict=True):
        batches = [list(loader) for loader in loaders]
        assert {len(of_rank) for of_rank in batches} == {len(loaders[0])}
        assert all(0 < len(images) <= batch_size for b in batches for images, _ in b)
        seen = {int(row) - 1 for b in batches for images, _ in b for row in images[:, 0]}
        assert seen == set(wanted) - missing


def test_even_ranks_have_batches_of_the_same_sizes(
    readers: dict[str, EmbeddingParts],
) -> None:
    for world_size, batch_size in [(2, 7), (3, 256), (7, 1)]:
        splits = [
            make_splits(
                *(False, batch_size, 5003, 0.5, 0.25),
                **readers,
                rank=rank,
                world_size=world_size,
            )
            for rank in range(world_size)
        ]
        for loaders, count in zip(
            zip(*splits, strict=True), (2501, 1250, 1252), strict=True
        ):
            rows = [range(d.first, d.stop) for d in (loader.dataset for loader in loaders)]
            assert {len(found) for found in rows} == {-(-count // world_size)}
            times = np.bincount(np.concatenate([*map(np.array, rows)]) - rows[0].start)
            assert (len(times), times.min()) == (count, 1)
            assert times.sum() - count < world_size  # rows that come twice


def test_one_rank_has_the_original_s_rows_with_or_without_even(
    readers: dict[str, EmbeddingParts],
) -> None:
    for even in (None, False, True):
        splits = make_splits(False, 7, 5003, 0.5, 0.25, **readers, even=even)
        ranges = [(loader.dataset.start, loader.dataset.stop) for loader in splits]
        assert ranges == [(0, 2501), (2501, 3751), (3751, 5003)]


def test_even_ranks_without_rows_are_refused_on_every_rank(
    readers: dict[str, EmbeddingParts],
) -> None:
    for rank in range(4):
        with pytest.raises(InputError, match="no rows of the evaluation split"):
            make_splits(False, 2, 10, 0.5, 0.25, **readers, rank=rank, world_size=4)


def test_vectors_that_are_all_missing_are_an_error_not_a_hang(tmp_path: Path) -> None:
    save_parts(tmp_path / "img_emb", np.zeros((40, DIM), np.float32), [40])
    found = get_reader(False, f"{tmp_path}/img_emb", txt_url=f"{tmp_path}/img_emb")
    assert isinstance(found, tuple)
    train, *_ = make_splits(False, 3, 40, 0.5, 0.25, *found, world_size=2, missing="skip")
    with pytest.raises(TableError, match="none of rows 0 to 20 has a vector"):
        list(train)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_set_start_reaches_workers_that_stay(
    readers: dict[str, EmbeddingParts], context: str
) -> None:
    dataset = PriorEmbeddingDataset(False, 10, 0, 40, **readers)
    loader = DataLoader(
        dataset,
        batch_size=None,
        num_workers=1,
        persistent_workers=True,
        multiprocessing_context=context,
    )
    for start in (0, 20, 30, 0):
        dataset.set_start(start)
        images = torch.cat([images for images, _ in loader])
        np.testing.assert_array_equal(images, ROWS[start:40].astype(np.float32))
    dataset.stop = 25
    assert sum(len(images) for images, _ in loader) == 25


def test_a_tokenizer_that_loses_captions_is_an_error(reader: EmbeddingParts) -> None:
    dataset = PriorEmbeddingDataset(
        True, 4, 0, 20, reader, tokenizer=lambda texts: torch.zeros(1, 77)
    )
    with pytest.raises(InputError, match="gave 1 rows for 20 captions"):
        list(dataset)
