"""The decoder's loader: each sample once, as many batches on each rank, resumable."""

import itertools
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from curation.errors import DataError, InputError, SampleError, ShardError, StaleError
from curation.image_decoding import decode_with_pillow
from curation.storage import LocalStorage
from curation.testing.embedding_folders import save_parts
from curation.testing.image_embedding_folders import (
    DIM,
    PER_SHARD,
    SHARDS,
    picture,
    save_folder,
    save_tars,
)
from curation.training import ImageEmbeddingDataset, create_image_embedding_dataloader
from curation.training.image_embedding_loader import ImageEmbeddingLoader
from tests.conftest import free_port

EVERY = list(range(SHARDS * PER_SHARD))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("decoder")
    save_tars(top / "tars")
    save_folder(top / "emb")
    return top


def make(data: Path, num_workers: int = 0, **settings: Any) -> ImageEmbeddingLoader:
    """Make a loader of batches of 7."""
    settings = {"shard_width": 4, "batch_size": 7} | settings
    return create_image_embedding_dataloader(
        tar_url=f"{data}/tars/{{0000..0002}}.tar",
        embeddings_url=f"{data}/emb",
        num_workers=num_workers,
        **settings,
    )


def numbers(batches: Any) -> list[list[int]]:
    """Tell the samples of each batch by their embeddings."""
    return [emb[:, 0].int().tolist() for _, emb, *_ in batches]


def flat(batches: list[list[int]]) -> list[int]:
    return list(itertools.chain(*batches))


def test_the_readmes_call_gives_tensors_of_images_and_embeddings(data: Path) -> None:
    dataloader = create_image_embedding_dataloader(
        tar_url=f"{data}/tars/{{0000..0002}}.tar",
        embeddings_url=f"{data}/emb",
        num_workers=2,
        batch_size=32,
        shard_width=4,
        shuffle_num=200,
        shuffle_shards=True,
        resample_shards=False,
    )
    assert isinstance(dataloader, DataLoader)
    shapes = [(img.shape, emb.shape, img.dtype, emb.dtype) for img, emb in dataloader]
    assert shapes == [
        ((n, 3, 16, 24), (n, DIM), torch.float32, torch.float32) for n in (32, 28)
    ]


def test_the_current_call_gives_a_dict_and_extras(data: Path) -> None:
    loader = create_image_embedding_dataloader(
        f"{data}/tars",
        0,
        32,
        img_embeddings_url=f"{data}/emb",
        text_embeddings_url=f"{data}/emb",
        index_width=3,
        extra_keys=["txt"],
        shuffle_shards=False,
    )
    _, emb, texts = next(iter(loader))
    assert emb["img"].shape == emb["text"].shape == (32, DIM)
    assert texts[:2] == ["caption of 0000000", "caption of 0000001"]


@pytest.mark.parametrize("shuffle_num", [None, 10])
def test_images_belong_to_their_embeddings(data: Path, shuffle_num: int | None) -> None:
    for images, emb in make(data, 2, shuffle_num=shuffle_num):
        for image, number in zip(images, emb[:, 0].int().tolist(), strict=True):
            pixels = torch.from_numpy(decode_with_pillow(picture(number))).permute(2, 0, 1)
            assert torch.equal(image, pixels / 255)


@pytest.mark.parametrize("shuffle_num", [None, 10])
def test_any_number_of_workers_gives_the_same_batches(
    data: Path, shuffle_num: int | None
) -> None:
    found = [numbers(make(data, w, shuffle_num=shuffle_num)) for w in (0, 1, 2)]
    assert found[0] == found[1] == found[2]
    assert sorted(flat(found[0])) == EVERY
    assert [len(batch) for batch in found[0]] == [7] * 8 + [4]


@pytest.mark.parametrize("world_size", [2, 3, 4, 7])
def test_ranks_have_as_many_batches_and_all_samples_once(
    data: Path, world_size: int
) -> None:
    loaders = [
        make(data, shuffle_num=10, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    found = [numbers(loader) for loader in loaders]
    assert {len(batches) for batches in found} == {len(loaders[0])}
    assert sorted(flat(flat(found))) == EVERY  # type: ignore[arg-type]


def test_shuffling_mixes_samples_of_all_shards_and_repeats_by_its_seed(data: Path) -> None:
    mixed = numbers(make(data, shuffle_num=10, batch_size=30))
    assert {number // PER_SHARD for number in mixed[0]} == set(range(SHARDS))
    assert mixed == numbers(make(data, shuffle_num=10, batch_size=30))
    assert mixed != numbers(make(data, shuffle_num=10, batch_size=30, seed=1))
    assert flat(numbers(make(data, shuffle_shards=False))) == EVERY


def test_epochs_follow_each_other_and_can_be_chosen(data: Path) -> None:
    loader = make(data, shuffle_num=10)
    first, second = numbers(loader), numbers(loader)
    assert first != second
    assert sorted(flat(second)) == EVERY
    loader.set_epoch(0)
    assert numbers(loader) == first
    other = make(data, shuffle_num=10)
    other.set_epoch(1)
    assert numbers(other) == second


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("done", [0, 1, 5, 9])
def test_an_epoch_goes_on_after_the_last_batch_that_was_given(
    data: Path, num_workers: int, done: int
) -> None:
    loader = make(data, num_workers, shuffle_num=10)
    loader.set_epoch(3)
    whole = [*numbers(loader), *numbers(loader)]
    loader.set_epoch(3)
    batches = iter(loader)
    for _ in range(done):
        next(batches)
    state = json.loads(json.dumps(loader.state_dict()))
    resumed = make(data, shuffle_num=10)
    resumed.load_state_dict(state)
    resumed.set_epoch(resumed.epoch)  # as training loops do
    rest = numbers(resumed)
    assert (rest if done < 9 else []) == whole[done:9]
    assert numbers(resumed) == whole[9:] or done == 9


def test_a_state_of_another_order_is_refused(data: Path) -> None:
    state = make(data, shuffle_num=10).state_dict()
    for settings in ({"batch_size": 8}, {"seed": 1}, {"world_size": 2}):
        loader = make(data, shuffle_num=10, **settings)
        name, value = next(iter(settings.items()))
        with pytest.raises(InputError, match=rf"{name}=\d \(now {value}\)"):
            loader.load_state_dict(state)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loop_may_be_left_at_any_time(data: Path, num_workers: int) -> None:
    loader = make(data, num_workers)
    for _ in range(3):
        for _ in loader:
            break
    assert len(numbers(loader)) == 9
    next(iter(loader))
    del loader
    assert not multiprocessing.active_children()


def test_its_length_is_in_batches(data: Path) -> None:
    assert len(make(data)) == 9
    assert len(make(data, batch_size=60)) == 1
    assert len(make(data, world_size=2, rank=1)) == 5
    with pytest.raises(TypeError):
        len(make(data, resample_shards=True))


def test_resampled_shards_have_no_end_and_need_no_other_setting(data: Path) -> None:
    loader = make(data, 1, resample_shards=True)
    batches = numbers(itertools.islice(loader, 30))
    assert {len(batch) for batch in batches} == {7}
    assert len(set(flat(batches))) > PER_SHARD
    resumed = make(data, resample_shards=True)
    resumed.load_state_dict(loader.state_dict() | {"batch": 12})
    assert numbers(itertools.islice(resumed, 18)) == batches[12:]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_that_are_held_on_to_stay_as_they_were(
    data: Path, num_workers: int
) -> None:
    held = list(make(data, num_workers))
    copies = [images.clone() for images, _ in make(data)]
    assert all(torch.equal(a, b) for (a, _), b in zip(held, copies, strict=True))
    by_itself = list(make(data, num_workers, img_preproc=np.asarray))
    for (pixels, _), floats in zip(by_itself, copies, strict=True):
        assert pixels.dtype == torch.uint8
        assert torch.equal(pixels.permute(0, 3, 1, 2) / 255, floats)


def as_bfloat16(image: Image.Image) -> torch.Tensor:
    return torch.tensor(image.size, dtype=torch.bfloat16)


def size_and_dice(image: Image.Image) -> tuple[int, float]:
    return image.width, random.random()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_images_may_be_preprocessed_to_anything(data: Path, num_workers: int) -> None:
    tensors, _ = next(iter(make(data, num_workers, img_preproc=as_bfloat16)))
    assert torch.equal(tensors, torch.tensor([[24, 16]] * 7, dtype=torch.bfloat16))
    anything, _ = next(iter(make(data, num_workers, img_preproc=size_and_dice)))
    assert [width for width, _ in anything] == [24] * 7


def test_looking_how_large_an_image_is_draws_no_random_numbers(data: Path) -> None:
    random.seed(7)
    expected = random.random()
    random.seed(7)
    next(iter(make(data, 1, img_preproc=size_and_dice)))
    assert random.random() == expected


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_first_image_that_is_bad_does_not_matter(
    tmp_path: Path, num_workers: int
) -> None:
    save_tars(tmp_path / "tars", broken={0: {"jpg": b"?"}})
    save_folder(tmp_path / "emb")
    loader = make(tmp_path, num_workers, shuffle_shards=False, handler=lambda _: True)
    assert flat(numbers(loader)) == EVERY[1:]
    first = next(iter(loader))[0]
    assert first.shape == (6, 3, 16, 24)
    assert first.max() <= 1


@pytest.mark.parametrize("num_workers", [0, 2])
def test_what_is_missing_or_bad_is_counted(tmp_path: Path, num_workers: int) -> None:
    save_tars(tmp_path / "tars", broken={3: {"jpg": b"?"}, 44: {"jpg": None}})
    save_folder(tmp_path / "emb")
    (tmp_path / "emb" / "img_emb_1.npy").unlink()
    loader = make(tmp_path, num_workers, missing="mask", handler=lambda _: True)
    present = torch.cat([mask for _, _, mask in loader])
    assert present.sum() == 38
    assert len(present) == 58
    assert (loader.num_missing, loader.num_bad) == (20, 2)
    skipping = make(tmp_path, num_workers, missing="skip", handler=lambda _: True)
    assert skipping.dataset.num_skipped == 20
    assert len(flat(numbers(skipping))) == 38
    assert (skipping.num_missing, skipping.num_bad) == (0, 2)
    assert len(skipping) == 6


@pytest.mark.parametrize("num_workers", [0, 2])
def test_errors_of_workers_keep_their_class(tmp_path: Path, num_workers: int) -> None:
    save_tars(tmp_path / "tars", broken={3: {"jpg": b"?"}})
    save_folder(tmp_path / "emb")
    with pytest.raises(SampleError) as error:
        list(make(tmp_path, num_workers))
    assert error.value.key == "0000003"


def test_a_batch_of_bad_samples_alone_is_left_out(tmp_path: Path) -> None:
    broken = {number: {"jpg": b"?"} for number in range(7)}
    save_tars(tmp_path / "tars", broken=broken)
    save_folder(tmp_path / "emb")
    loader = make(tmp_path, shuffle_shards=False, handler=lambda _: True)
    assert flat(numbers(loader)) == EVERY[7:]
    assert loader.num_bad == 7


@given(
    world_size=st.integers(2, 4),
    num_workers=st.sampled_from([0, 0, 0, 0, 2]),
    batch_size=st.integers(1, 20),
    shuffle_num=st.sampled_from([None, 10]),
    broken=st.one_of(
        st.sets(st.sampled_from(EVERY), max_size=59),
        st.sampled_from([set(EVERY[:20]), set(EVERY[20:]), set(EVERY[1:])]),
    ),
)
@hypothesis.settings(max_examples=20)
def test_ranks_have_as_many_batches_whatever_is_broken(
    tmp_path_factory: pytest.TempPathFactory,
    world_size: int,
    num_workers: int,
    batch_size: int,
    shuffle_num: int | None,
    broken: set[int],
) -> None:
    data = tmp_path_factory.mktemp("ranks")
    save_tars(data / "tars", broken={number: {"jpg": b"?"} for number in broken})
    save_folder(data / "emb")
    settings: dict[str, Any] = {
        "shuffle_num": shuffle_num,
        "batch_size": batch_size,
        "world_size": world_size,
        "handler": lambda _: True,
    }
    loaders = [make(data, num_workers, rank=rank, **settings) for rank in range(world_size)]
    found = [numbers(loader) for loader in loaders]
    assert {len(batches) for batches in found} == {len(loaders[0])}
    assert all(batch for batches in found for batch in batches)
    given_once = set(EVERY) - broken
    assert set(flat(flat(found))) == given_once  # type: ignore[arg-type]
    again = sum(loader.num_again for loader in loaders)
    assert len(flat(flat(found))) == len(given_once) + again  # type: ignore[arg-type]
    assert sum(loader.num_bad for loader in loaders) == len(broken)


def test_what_dali_cannot_decode_empties_no_rank(tmp_path: Path) -> None:
    broken = {number: {"jpg": b"?"} for number in EVERY[20:]}
    save_tars(tmp_path / "tars", broken=broken)
    save_folder(tmp_path / "emb")
    settings: dict[str, Any] = {"decode": "dali", "image_size": 16, "device": "cpu"}
    settings |= {"world_size": 2, "shuffle_shards": False, "handler": lambda _: True}
    loaders = [make(tmp_path, rank=rank, **settings) for rank in (0, 1)]
    found = [numbers(loader) for loader in loaders]
    assert [len(batches) for batches in found] == [len(loaders[0])] * 2
    assert set(flat(flat(found))) == set(EVERY[:20])  # type: ignore[arg-type]


def test_a_set_of_which_nothing_is_left_is_an_error_where_ranks_would_wait(
    tmp_path: Path,
) -> None:
    save_tars(tmp_path / "tars", broken={number: {"jpg": b"?"} for number in EVERY})
    save_folder(tmp_path / "emb")
    loader = make(tmp_path, world_size=2, handler=lambda _: True)
    with pytest.raises(DataError, match="none of 60 samples can be given"):
        list(loader)


def test_an_epoch_with_batches_that_were_refilled_repeats_and_resumes(
    tmp_path: Path,
) -> None:
    save_tars(tmp_path / "tars", broken={number: {"jpg": b"?"} for number in EVERY[10:50]})
    save_folder(tmp_path / "emb")

    def rank(num_workers: int) -> ImageEmbeddingLoader:
        settings: dict[str, Any] = {"handler": lambda _: True, "batch_size": 3}
        return make(tmp_path, num_workers, world_size=2, rank=1, **settings)

    whole = numbers(rank(0))
    loader = rank(2)
    batches = iter(loader)
    begin = numbers(itertools.islice(batches, 4))
    resumed = rank(0)
    resumed.load_state_dict(loader.state_dict())
    assert begin + numbers(resumed) == whole


def test_the_epoch_may_be_set_on_the_data_set_too(data: Path) -> None:
    loader = make(data, shuffle_num=10)
    first = numbers(loader)
    second = numbers(loader)
    loader.dataset.set_epoch(0)  # as accelerate and others do
    assert numbers(loader) == first
    assert loader.epoch == 1
    loader.load_state_dict(loader.state_dict() | {"epoch": 0, "batch": 4})
    loader.dataset.set_epoch(1)  # another epoch than that of the state begins at its begin
    assert numbers(loader) == second


def test_shards_elsewhere_are_mixed_in_groups_and_read_once(
    data: Path, serve_http: Callable[[Path], str]
) -> None:
    url = serve_http(data)
    loader = create_image_embedding_dataloader(
        f"{url}/tars/{{0000..0002}}.tar",
        2,
        5,
        f"{url}/emb",
        shard_width=4,
        shuffle_num=15,
        shuffle_shards=False,
    )
    batches = numbers(loader)
    assert sorted(flat(batches)) == EVERY
    for lane in (0, 1):  # batches of one worker, group by group
        groups = [set(flat(batches[lane::2][at : at + 3])) for at in (0, 3)]
        assert groups == [
            set(range(first, first + 15)) for first in (lane * 15, 30 + lane * 15)
        ]
    half = make(data).load_state_dict
    with pytest.raises(InputError, match="another order"):
        half(loader.state_dict())


def test_an_index_beside_a_tar_elsewhere_is_used_if_it_fits(
    data: Path, tmp_path: Path, serve_http: Callable[[Path], str]
) -> None:
    from curation.dali_index import format_index
    from curation.index import build_index
    from curation.tar import read_members

    save_tars(tmp_path)
    storage = LocalStorage(tmp_path)
    index = build_index(read_members(storage, "0000.tar"))
    storage.write("0000.idx", format_index(index))
    storage.write("0001.idx", format_index(index))  # another tar's
    storage.write("0002.idx", b"v1.2 oops")
    url = serve_http(tmp_path)
    loader = create_image_embedding_dataloader(
        f"{url}/{{0000..0002}}.tar", 0, 60, f"{data}/emb", shard_width=4
    )
    assert sorted(flat(numbers(loader))) == EVERY
    whole = storage.read("0000.tar")
    storage.write("0000.tar", whole[: len(whole) // 2])
    with pytest.raises((ShardError, StaleError)):
        create_image_embedding_dataloader(f"{url}/0000.tar", 0, 60, f"{data}/emb")


def test_dali_decodes_batches(tmp_path: Path) -> None:
    save_tars(tmp_path / "tars", broken={3: {"jpg": b"?"}})
    save_folder(tmp_path / "emb")
    loader = make(
        tmp_path,
        decode="dali",
        image_size=16,
        device="cpu",
        extra_keys=["__key__"],
        shuffle_shards=False,
        handler=lambda _: True,
    )
    seen = []
    for images, emb, keys in loader:
        assert images.shape[1:] == (3, 16, 16)
        for image, number, key in zip(images, emb[:, 0].int().tolist(), keys, strict=True):
            assert key == f"{number // PER_SHARD:04d}{number % PER_SHARD:03d}"
            middle = decode_with_pillow(picture(number))[
                :, 4:20
            ]  # of 24: nothing is resized
            expected = torch.from_numpy(middle).permute(2, 0, 1) / 255
            torch.testing.assert_close(image, expected, rtol=0, atol=0.02)
            seen.append(number)
    assert seen == [number for number in EVERY if number != 3]
    assert loader.num_bad == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decode": "dali"}, "needs image_size"),
        ({"image_size": 64}, "nothing else does"),
        ({"decode": "dali", "image_size": 8, "img_preproc": print}, "PIL images"),
        ({"decode": "gpu"}, "decode='gpu'"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    data: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make(data, **settings)


RANK = """
import json, sys
import torch
from curation.training import create_image_embedding_dataloader

data, store, rank, log, state = sys.argv[1:]
torch.distributed.init_process_group(
    "gloo", init_method=f"file://{store}", rank=int(rank), world_size=2
)
loader = create_image_embedding_dataloader(
    f"{data}/tars", 2, 4, f"{data}/emb", shard_width=4, shuffle_num=10
)
try:
    loader.load_state_dict(json.load(open(state)))
except FileNotFoundError:
    pass
for _, emb in loader:
    torch.distributed.all_reduce(torch.ones(1))  # as a training step: all ranks or none
    with open(log, "a") as file:
        print(*emb[:, 0].int().tolist(), file=file)
    if rank == "0":
        json.dump(loader.state_dict(), open(f"{state}.part", "w"))
    torch.distributed.barrier()
    print("batch", flush=True)
    sys.stdin.readline()
"""


def run_ranks(data: Path, folder: Path, name: str, batches: int) -> list[list[int]]:
    """Run two ranks for some batches, then kill them; give what each of them saw."""
    (folder / name).mkdir()
    logs = [folder / name / f"{rank}.log" for rank in (0, 1)]
    state, store = folder / "state.json", folder / name / "store"
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, data, store, str(rank), logs[rank], state],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for rank in (0, 1)
    ]
    try:
        for _ in range(batches):
            for process in ranks:
                assert process.stdin is not None and process.stdout is not None
                assert process.stdout.readline() == "batch\n"
            (folder / "state.json.part").rename(state)
            if _ == batches - 1 and name == "killed":
                break
            for process in ranks:
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
        if name != "killed":
            assert [process.wait() for process in ranks] == [0, 0]
    finally:
        for process in ranks:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return [[int(n) for n in log.read_text().split()] for log in logs]


@pytest.mark.slow
def test_two_ranks_of_two_workers_read_each_sample_once_and_go_on_after_a_kill(
    data: Path, tmp_path: Path
) -> None:
    before = run_ranks(data, tmp_path, "killed", batches=3)
    after = run_ranks(data, tmp_path, "resumed", batches=5)
    assert [len(a) + len(b) for a, b in zip(before, after, strict=True)] == [30, 30]
    assert sorted(flat(before) + flat(after)) == EVERY
    assert np.shape(before) == (2, 12)


HANGING = """
import sys
from datetime import timedelta

import numpy as np
import torch
from curation.training import create_image_embedding_dataloader, get_reader, make_splits

data, port, rank = sys.argv[1:]
torch.distributed.init_process_group(
    "gloo",
    init_method=f"tcp://127.0.0.1:{port}",
    rank=int(rank),
    world_size=2,
    timeout=timedelta(seconds=30),
)


def count(loader):
    batches = 0
    for _ in loader:
        torch.distributed.all_reduce(torch.ones(1))  # waits for the other rank
        batches += 1
    torch.distributed.barrier()
    return batches


tars = create_image_embedding_dataloader(
    f"{data}/tars", 1, 4, f"{data}/emb", handler=lambda _: True, shuffle_shards=False
)
readers = get_reader(False, f"{data}/parts", txt_url=f"{data}/parts")
splits = make_splits(
    *(False, 4, 82, 0.5, 0.25, *readers), rank=int(rank), world_size=2, missing="skip"
)
print(*map(count, (tars, *splits)))
"""


def test_ranks_that_wait_for_each_other_come_to_the_end(tmp_path: Path) -> None:
    save_tars(tmp_path / "tars", broken={number: {"jpg": b"?"} for number in EVERY[28:]})
    save_folder(tmp_path / "emb")
    rows = np.ones((82, 8), np.float32)
    rows[5:30] = rows[41:50] = 0
    save_parts(tmp_path / "parts", rows, [82])
    command = [sys.executable, "-c", HANGING, str(tmp_path), str(free_port())]
    ranks = [
        subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    try:
        said = [process.communicate(timeout=120)[0] for process in ranks]
    finally:
        for process in ranks:
            process.kill()
            process.wait()
    assert said == ["8 6 3 3\n"] * 2


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_set_epoch_reaches_workers_that_stay(data: Path, context: str) -> None:
    def samples_of(loader: Any, dataset: ImageEmbeddingDataset, epoch: int) -> list[int]:
        dataset.set_epoch(epoch)
        return [int(emb[0, 0]) for _, emb in loader]

    dataset = ImageEmbeddingDataset(f"{data}/tars", f"{data}/emb", shard_width=4)
    fresh = DataLoader(dataset)
    expected = {epoch: samples_of(fresh, dataset, epoch) for epoch in (1, 2, 5)}
    assert len({tuple(order) for order in expected.values()}) == 3
    stays = DataLoader(
        dataset, num_workers=1, persistent_workers=True, multiprocessing_context=context
    )
    for epoch in (5, 1, 2, 1):
        assert samples_of(stays, dataset, epoch) == expected[epoch]
    dataset.max_pixels = 10
    with pytest.raises(Exception, match="pixels"):
        list(stays)
    dataset.max_pixels = 10_000


SMALL_MEMORY = """
import sys
from curation.errors import InputError
from curation.training import create_image_embedding_dataloader, get_reader
from curation.training.prior_embedding import PriorEmbeddingDataset, PriorLoader

data = sys.argv[1]
for workers in (0, 2):
    loader = create_image_embedding_dataloader(f"{data}/tars", workers, 60, f"{data}/emb")
    reader = get_reader(False, f"{data}/parts", txt_url=f"{data}/parts")
    prior = PriorLoader(PriorEmbeddingDataset(False, 4000, 0, 8000, *reader), workers)
    for each in (loader, prior):
        try:
            print(len(list(each)))
        except InputError as error:
            print(error)
"""


def test_too_little_shared_memory_is_told_with_what_to_do(tmp_path: Path) -> None:
    save_tars(tmp_path / "tars")
    save_folder(tmp_path / "emb")
    save_parts(tmp_path / "parts", np.ones((8000, 8), np.float32), [8000])
    small = "mount -t tmpfs -o size=64k tmpfs /dev/shm"
    own = ["unshare", "-rm", "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*own, small]).returncode:
        pytest.skip("mounting needs a user namespace, which is not allowed here")
    command = f'{small} && exec "$@"'
    script = [sys.executable, "-c", SMALL_MEMORY, str(tmp_path)]
    ran = subprocess.run(
        [*own, command, "sh", *script], stdout=subprocess.PIPE, text=True, timeout=120
    )
    whole, prior, *told = ran.stdout.splitlines()
    assert (whole, prior) == ("1", "2")
    assert len(told) == 2
    for line in told:
        assert line.startswith("/dev/shm")
        assert "--shm-size" in line
