"""The decoder's samples: right pairs from every place, and the original's faults absent."""

import io
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import webdataset
from PIL import Image
from torch.utils.data import DataLoader

from curation.errors import (
    CurationError,
    InputError,
    NotFoundError,
    SampleError,
    ShardError,
    StaleError,
    TableError,
)
from curation.image_decoding import decode_with_pillow
from curation.image_loaders import EncodedImage, LoaderSettings, make_image_loader
from curation.image_transform import ImageTransform
from curation.storage import LocalStorage, S3Storage
from curation.tables import FILTERED, embedding_column, write_table
from curation.testing.image_embedding_folders import (
    DIM,
    PER_SHARD,
    SHARDS,
    npy_bytes,
    picture,
    save_folder,
    save_tars,
    vector,
)
from curation.testing.image_shards import make_shard, make_tar
from curation.testing.odd_pictures import DAMAGES, damaged_copies, pictures_to_damage
from curation.training import ImageEmbeddingDataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("decoder")
    save_tars(top / "tars")
    save_folder(top / "emb")
    return top


def numbers(samples: Any) -> list[int]:
    """Tell the samples by their embeddings, whose first number is the sample's."""
    return [int(emb[0]) for _, emb, *_ in samples]


EVERY = list(range(SHARDS * PER_SHARD))


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves tars open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("widths", [{"shard_width": 4}, {"index_width": 3}])
def test_pairs_are_those_of_webdataset_and_numpy(
    data: Path, widths: dict[str, int]
) -> None:
    urls = f"{data}/tars/{{0000..0002}}.tar"
    ours = ImageEmbeddingDataset(urls, f"{data}/emb", shuffle_shards=False, **widths)
    theirs = webdataset.WebDataset(urls, shardshuffle=False, empty_check=False)
    stored = {shard: np.load(data / "emb" / f"img_emb_{shard}.npy") for shard in range(3)}
    count = 0
    for (image, emb), sample in zip(ours, theirs.decode("torchrgb"), strict=True):
        key = sample["__key__"]
        torch.testing.assert_close(image, sample["jpg"], rtol=0, atol=0)
        assert emb.tolist() == stored[int(key[:4])][int(key[4:])].tolist()
        count += 1
    assert count == len(ours) == len(EVERY)


def test_the_current_names_give_a_dict_of_image_and_text_embeddings(data: Path) -> None:
    dataset = ImageEmbeddingDataset(
        f"{data}/tars/{{0000..0002}}.tar",
        img_embedding_folder_url=f"{data}/emb",
        text_embedding_folder_url=f"{data}/emb",
        index_width=3,
        extra_keys=["txt", "json", "cls", "__key__"],
        shuffle_shards=False,
    )
    samples = list(dataset)
    for number, (_, emb, text, meta, label, key) in enumerate(samples):
        shard, row = divmod(number, PER_SHARD)
        assert emb["img"].tolist() == emb["text"].tolist() == vector(number).tolist()
        assert key == f"{shard:04d}{row:03d}"
        assert (text, meta, label) == (f"caption of {key}", {"number": number}, row)


def test_components_may_have_compound_extensions(tmp_path: Path) -> None:
    parts = {"jpg": None, "Outputs.txt": "Bär".encode("utf-16"), "meta.json": b"[1]"}
    named = {n: {**parts, "input.jpg": picture(n), "png": b"no image"} for n in EVERY}
    save_tars(tmp_path, with_npy=(DIM,), broken=named)
    dataset = ImageEmbeddingDataset(
        str(tmp_path),
        extra_keys=["outputs.txt", "meta.json"],
        image_extensions=["input.jpg"],
    )
    assert sorted(numbers(dataset)) == EVERY
    assert {(text, *values) for *_, text, values in dataset} == {("Bär", 1)}


@pytest.mark.parametrize("shape", [(DIM,), (1, DIM)])
def test_embeddings_inside_the_tars_need_no_folder(tmp_path: Path, shape: tuple) -> None:
    save_tars(tmp_path, with_npy=shape)
    dataset = ImageEmbeddingDataset(f"{tmp_path}/{{0000..0002}}.tar")
    assert sorted(numbers(dataset)) == EVERY


def test_a_folder_with_vectors_beside_the_tars_is_read_by_its_url_alone(
    tmp_path: Path,
) -> None:
    save_tars(tmp_path)
    save_folder(tmp_path, name="img_emb_{:05d}.npy")
    save_folder(tmp_path, name="text_emb_{:05d}.npy")
    assert sorted(numbers(ImageEmbeddingDataset(str(tmp_path)))) == EVERY


def test_filtered_shards_are_read_by_their_folder_with_vectors_by_key(
    tmp_path: Path,
) -> None:
    save_tars(tmp_path)
    for shard in range(SHARDS):
        rows = list(reversed(range(PER_SHARD)))
        vectors = np.stack([vector(shard * PER_SHARD + row) for row in rows])
        table = pa.table(
            {
                "key": [f"{shard:04d}{row:03d}" for row in rows],
                "image_embedding": embedding_column(vectors, np.ones(len(rows), bool)),
            }
        )
        path = f"{shard:04d}.parquet"
        write_table(LocalStorage(tmp_path), path, FILTERED, table, fingerprint="x")
    for missing in ("raise", "skip"):
        found = list(ImageEmbeddingDataset(str(tmp_path), missing=missing))
        assert sorted(numbers(found)) == EVERY


@pytest.mark.parametrize("name", ["img_emb_{:d}.npy", "any-prefix{:08d}.npy"])
def test_any_prefix_and_width_will_do_and_stray_files_are_left_alone(
    data: Path, tmp_path: Path, name: str
) -> None:
    save_folder(tmp_path, name=name)
    for stray in ("README.txt", "mean.npy", "00000.json"):
        (tmp_path / stray).write_text("not what you think")
    dataset = ImageEmbeddingDataset(f"{data}/tars", str(tmp_path), index_width=3)
    assert sorted(numbers(dataset)) == EVERY


def test_any_tar_prefix_will_do(tmp_path: Path) -> None:
    save_tars(tmp_path, name="train-{:06d}.tar")
    save_folder(tmp_path / "emb")
    urls = f"{tmp_path}/train-{{000000..000002}}.tar"
    dataset = ImageEmbeddingDataset(urls, f"{tmp_path}/emb", shard_width=4)
    assert sorted(numbers(dataset)) == EVERY


def test_tars_and_vectors_come_from_a_web_server(
    data: Path, serve_http: Callable[[Path], str]
) -> None:
    url = serve_http(data)
    dataset = ImageEmbeddingDataset(
        f"{url}/tars/{{0000..0002}}.tar", f"{url}/emb", index_width=3
    )
    assert not dataset.random_access
    assert sorted(numbers(dataset)) == EVERY


def test_tars_and_vectors_come_from_s3(data: Path, s3_storage: S3Storage) -> None:
    for file in [*data.glob("*/*.tar"), *data.glob("*/*.npy")]:
        s3_storage.write(str(file.relative_to(data)), file.read_bytes())
    dataset = ImageEmbeddingDataset(
        f"{s3_storage.url}/tars/{{0000..0002}}.tar",
        f"{s3_storage.url}/emb",
        index_width=3,
        s3=s3_storage.settings,
    )
    assert sorted(numbers(dataset)) == EVERY


def test_plain_worker_processes_share_the_samples(data: Path) -> None:
    dataset = ImageEmbeddingDataset(f"{data}/tars", f"{data}/emb", index_width=3)
    loader = DataLoader(dataset, batch_size=None, num_workers=2)
    assert sorted(numbers(loader)) == EVERY


def test_ranks_share_the_samples(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    found = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        dataset = ImageEmbeddingDataset(f"{data}/tars", f"{data}/emb", index_width=3)
        found.append(numbers(dataset))
        assert len(found[-1]) == len(dataset)
    assert sorted(found[0] + found[1]) == EVERY


def test_epochs_differ_in_the_order_of_shards(data: Path) -> None:
    dataset = ImageEmbeddingDataset(f"{data}/tars", f"{data}/emb", index_width=3)

    def order(epoch: int) -> tuple[int, ...]:
        dataset.set_epoch(epoch)
        return tuple(numbers(dataset))

    assert order(1) == order(1)
    assert len({order(epoch) for epoch in range(8)}) > 1


def test_resampled_shards_have_no_end(data: Path) -> None:
    dataset = ImageEmbeddingDataset(
        f"{data}/tars", f"{data}/emb", index_width=3, resample=True
    )
    many = numbers(itertools.islice(dataset, 4 * len(EVERY)))
    assert set(many) == set(EVERY)
    with pytest.raises(TypeError, match="no end"):
        len(dataset)


def test_pictures_can_be_preprocessed_or_left_as_they_are_stored(data: Path) -> None:
    def preproc(image: Image.Image) -> torch.Tensor:
        assert image.mode == "RGB"
        return torch.tensor(image.size)

    made = ImageEmbeddingDataset(f"{data}/tars", f"{data}/emb", img_preproc=preproc)
    assert all(image.tolist() == [24, 16] for image, _ in made)
    raw = ImageEmbeddingDataset(
        f"{data}/tars", f"{data}/emb", decode=None, shuffle_shards=False
    )
    assert [image for image, _ in raw] == [picture(number) for number in EVERY]


def holes(folder: Path) -> Path:
    """Save vectors of which samples 1 and 19 have none, nor any of shard 1."""
    save_folder(folder)
    (folder / "img_emb_1.npy").unlink()
    for shard, row in ((0, 1), (2, 19)):
        rows = np.load(folder / f"img_emb_{shard}.npy")
        rows[row] = 0
        np.save(folder / f"img_emb_{shard}.npy", rows[:-1] if row == 19 else rows)
    return folder


WITHOUT = {1, 59, *range(20, 40)}


def test_samples_without_a_vector_are_an_error_with_its_place(
    data: Path, tmp_path: Path
) -> None:
    urls = [f"{data}/tars/000{shard}.tar" for shard in range(3)]
    found = {}
    for shard, url in enumerate(urls):
        dataset = ImageEmbeddingDataset(url, str(data / "emb"), index_width=3)
        assert len(dataset) == PER_SHARD
        if shard == 1:
            continue
        dataset = ImageEmbeddingDataset(url, str(holes(tmp_path)), index_width=3)
        with pytest.raises(TableError, match="has no embedding") as error:
            list(dataset)
        found[shard] = str(error.value)
    assert "0000001" in found[0] and "row 1 of" in found[0]
    assert "0002019" in found[2] and "img_emb_2.npy ends after 19 rows" in found[2]
    dataset = ImageEmbeddingDataset(urls, str(tmp_path), index_width=3)
    with pytest.raises(TableError, match=r"no \.npy of number 1"):
        dataset.load(np.array([20]))


def test_samples_without_a_vector_are_skipped_and_counted(
    data: Path, tmp_path: Path
) -> None:
    dataset = ImageEmbeddingDataset(
        f"{data}/tars", str(holes(tmp_path)), index_width=3, missing="skip"
    )
    assert sorted(numbers(dataset)) == sorted(set(EVERY) - WITHOUT)
    assert dataset.num_skipped == len(WITHOUT)
    assert len(dataset) == len(EVERY) - len(WITHOUT)


def test_samples_without_a_vector_are_masked(data: Path, tmp_path: Path) -> None:
    dataset = ImageEmbeddingDataset(
        f"{data}/tars",
        str(holes(tmp_path)),
        index_width=3,
        missing="mask",
        shuffle_shards=False,
    )
    for number, (_, emb, present) in enumerate(dataset):
        assert present == (number not in WITHOUT)
        assert emb.any() == present


def test_no_time_is_spent_asleep_over_missing_vectors(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    folder = str(holes(tmp_path))
    for missing in ("skip", "mask"):
        list(ImageEmbeddingDataset(f"{data}/tars", folder, index_width=3, missing=missing))
    assert not slept


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"jpg": b"\xff\xd8 no picture"}, "can't be decoded|no image"),
        ({"jpg": None}, "it has no image"),
        ({"txt": None}, r"it has no \.txt"),
        ({"json": b"{"}, r"its \.json can't be read"),
        ({"json": b"[" * 100_000}, r"its \.json can't be read"),
    ],
)
def test_a_bad_sample_is_named_and_costs_itself_alone(
    tmp_path: Path, broken: dict[str, bytes | None], message: str
) -> None:
    save_tars(tmp_path, with_npy=(DIM,), broken={7: broken})
    keys = {"extra_keys": ["txt", "json"]}
    with pytest.raises(SampleError, match=message) as error:
        list(ImageEmbeddingDataset(str(tmp_path), **keys))
    assert error.value.key == "0000007"
    seen: list[Exception] = []

    def handler(error: Exception) -> bool:
        seen.append(error)
        return True

    dataset = ImageEmbeddingDataset(str(tmp_path), handler=handler, **keys)
    assert sorted(numbers(dataset)) == [n for n in EVERY if n != 7]
    assert len(seen) == 1
    with pytest.raises(SampleError):
        list(ImageEmbeddingDataset(str(tmp_path), handler=lambda _: False, **keys))


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves tars open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", ["nvimgcodec", "dali", "pillow"])
def test_whatever_an_image_loader_takes_can_be_read_by_webdataset_and_by_us(
    name: str, tmp_path: Path
) -> None:
    """Twelve good images and 84 damaged ones, and what is left of them as a shard."""
    good = pictures_to_damage()["JPEG 4:2:0"]
    images = [good] * 12
    for damage in DAMAGES:
        images += damaged_copies(good, damage, 12)
    transform = ImageTransform(height=32, width=32, resize=(36, 36))
    loader = make_image_loader(name, transform, LoaderSettings(batch_size=16))
    batches = loader.load(EncodedImage(row, data) for row, data in enumerate(images))
    kept = [image.row for batch in batches for image in batch.images if not image.error]
    assert 12 < len(kept) < len(images)
    tar = tmp_path / "0000.tar"
    tar.write_bytes(make_shard({f"{row:04}": images[row] for row in kept}))
    theirs = webdataset.WebDataset(str(tar), shardshuffle=False, empty_check=False)
    assert len(list(theirs.decode("pil"))) == len(kept)
    assert all(decode_with_pillow(images[row]).any() for row in kept)


def test_webdatasets_handlers_fit(tmp_path: Path) -> None:
    save_tars(tmp_path, with_npy=(DIM,), broken={3: {"jpg": b""}, 4: {"jpg": b"?"}})
    handler = webdataset.ignore_and_continue
    found = ImageEmbeddingDataset(str(tmp_path), handler=handler)
    assert sorted(numbers(found)) == [n for n in EVERY if n not in (3, 4)]


@pytest.mark.parametrize("kept", [0.3, 0.7])
def test_a_tar_cut_short_is_an_error_with_the_offset(
    data: Path, tmp_path: Path, kept: float
) -> None:
    whole = (data / "tars" / "0000.tar").read_bytes()
    (tmp_path / "0000.tar").write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ShardError) as error:
        ImageEmbeddingDataset(f"{tmp_path}/0000.tar", f"{data}/emb", index_width=3)
    assert 0 < error.value.offset <= kept * len(whole)


def test_a_tar_replaced_since_it_was_indexed_is_an_error(tmp_path: Path) -> None:
    save_tars(tmp_path, with_npy=(DIM,))
    dataset = ImageEmbeddingDataset(f"{tmp_path}/0000.tar")
    (tmp_path / "0000.tar").write_bytes(b"\0" * 10240)
    with pytest.raises((StaleError, TableError)):
        list(dataset)


def wrong_width(folder: Path) -> None:
    np.save(folder / "img_emb_1.npy", np.ones((PER_SHARD, DIM + 1), np.float16))


def wrong_dtype(folder: Path) -> None:
    np.save(folder / "img_emb_1.npy", np.ones((PER_SHARD, DIM), np.float64))


def pickled(folder: Path) -> None:
    np.save(folder / "img_emb_1.npy", np.array([object()]), allow_pickle=True)


def cut_short(folder: Path) -> None:
    place = folder / "img_emb_1.npy"
    place.write_bytes(place.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [wrong_width, wrong_dtype, pickled, cut_short])
def test_vectors_of_another_kind_are_an_error_that_names_the_file(
    data: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    save_folder(tmp_path)
    damage(tmp_path)
    with pytest.raises(TableError, match=r"img_emb_1\.npy"):
        ImageEmbeddingDataset(f"{data}/tars", str(tmp_path), index_width=3)


def test_without_widths_a_file_must_have_a_row_for_every_sample(
    data: Path, tmp_path: Path
) -> None:
    save_folder(tmp_path)
    np.save(tmp_path / "img_emb_1.npy", np.ones((PER_SHARD - 1, DIM), np.float16))
    with pytest.raises(TableError, match=r"19 rows.*20 samples"):
        ImageEmbeddingDataset(f"{data}/tars", str(tmp_path))


@pytest.mark.parametrize(
    "widths", [{"index_width": 2}, {"index_width": 4}, {"shard_width": 3}]
)
def test_digits_of_another_shard_than_the_tar_are_an_error(
    data: Path, widths: dict[str, int]
) -> None:
    with pytest.raises(InputError, match="is the width right"):
        ImageEmbeddingDataset(f"{data}/tars", f"{data}/emb", **widths)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"index_width": 3, "shard_width": 4}, "give one"),
        ({"img_embedding_folder_url": "x"}, "give either"),
        ({"missing": "drop"}, "'raise', 'skip' or 'mask'"),
        ({"decode": "jpeg"}, "decode='jpeg'"),
        ({"decode": None, "img_preproc": print}, "decode=None gives bytes"),
        ({"rank": 2, "world_size": 2}, "rank 2"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    data: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        ImageEmbeddingDataset(f"{data}/tars", f"{data}/emb", **settings)


def test_an_empty_or_ambiguous_folder_is_an_error(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no \.npy"):
        ImageEmbeddingDataset(f"{data}/tars", str(tmp_path))
    save_folder(tmp_path, name="one_{:d}.npy")
    save_folder(tmp_path, name="two_{:d}.npy")
    with pytest.raises(InputError, match="several kinds, one_, two_"):
        ImageEmbeddingDataset(f"{data}/tars", str(tmp_path))
    with pytest.raises(InputError, match="give embeddings_url"):
        ImageEmbeddingDataset(f"{data}/tars")
    with pytest.raises(NotFoundError):
        ImageEmbeddingDataset(f"{data}/tars/9999.tar", f"{data}/emb")


def test_vectors_in_tars_of_another_width_are_an_error(tmp_path: Path) -> None:
    members = [("a.jpg", picture(0)), ("a.npy", npy_bytes(np.ones(4, np.float32)))]
    members += [("b.jpg", picture(1)), ("b.npy", npy_bytes(np.ones(5, np.float32)))]
    (tmp_path / "0.tar").write_bytes(make_tar(members))
    with pytest.raises(TableError, match=r"b: its \.npy has 5 numbers"):
        list(ImageEmbeddingDataset(f"{tmp_path}/0.tar"))


def test_images_of_several_shapes_need_preprocessing(tmp_path: Path) -> None:
    members: list[tuple[str, bytes]] = []
    for number, size in enumerate(((8, 8), (8, 9))):
        stored = io.BytesIO()
        Image.new("RGB", size).save(stored, "PNG")
        members += [(f"{number}.png", stored.getvalue())]
        members += [(f"{number}.npy", npy_bytes(np.ones(4, np.float32)))]
    (tmp_path / "0.tar").write_bytes(make_tar(members))
    dataset = ImageEmbeddingDataset(f"{tmp_path}/0.tar")
    assert [image.shape for image, _ in dataset] == [(3, 8, 8), (3, 9, 8)]
    with pytest.raises(InputError, match="img_preproc"):
        dataset.load_batch(np.arange(2))
    mixed = ImageEmbeddingDataset(
        f"{tmp_path}/0.tar", img_preproc=lambda i: np.zeros(2) if i.height == 8 else "no"
    )
    with pytest.raises(InputError, match=r"\(2,\) of float64, and str"):
        mixed.load_batch(np.arange(2))


LIGHT = """
import sys, json
from curation.training import ImageEmbeddingDataset, create_image_embedding_dataloader
from curation.training import PriorEmbeddingDataset, get_reader, make_splits
create_image_embedding_dataloader(sys.argv[1], 0, 4, sys.argv[2], index_width=3)
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def test_a_training_job_loads_neither_timm_nor_dali_nor_dagster(data: Path) -> None:
    arguments = [sys.executable, "-c", LIGHT, f"{data}/tars", f"{data}/emb"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert not loaded & {"timm", "nvidia", "dagster", "sklearn", "polars", "webdataset"}


def test_errors_of_a_training_job_are_this_packages() -> None:
    assert issubclass(SampleError, CurationError)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["folder", "tar"])
def test_vectors_that_are_not_finite_are_missing(
    tmp_path: Path, value: float, where: str
) -> None:
    damaged = vector(23)
    damaged[3] = value
    broken = {23: {"npy": npy_bytes(damaged)}} if where == "tar" else {}
    save_tars(tmp_path, with_npy=(DIM,) if where == "tar" else None, broken=broken)
    if where == "folder":
        save_folder(tmp_path)
        rows = np.load(tmp_path / "img_emb_1.npy")
        rows[3] = damaged
        np.save(tmp_path / "img_emb_1.npy", rows)
    url = str(tmp_path)
    with pytest.raises(TableError, match=r"0001003 has no embedding: .*NaN or infinite"):
        list(ImageEmbeddingDataset(url))
    skipping = ImageEmbeddingDataset(url, shuffle_shards=False, missing="skip")
    assert numbers(skipping) == [number for number in EVERY if number != 23]
    masked = list(ImageEmbeddingDataset(url, shuffle_shards=False, missing="mask"))
    assert [present for *_, present in masked] == [number != 23 for number in EVERY]
    assert masked[23][1].tolist() == [0] * DIM
