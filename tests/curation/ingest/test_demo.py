"""The demo dataset is what its table of planted truth says, by other programs' reading."""

import hashlib
import io
import json
import tarfile
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import webdataset
from PIL import Image, UnidentifiedImageError

from curation.errors import InputError, NotFoundError
from curation.ingest.demo import (
    DemoDataset,
    FoundCopies,
    compare_with_planted,
    count_found_copies,
    make_demo_dataset,
    read_planted,
)
from curation.ingest.demo_plan import KINDS
from curation.storage import LocalStorage, MemoryStorage
from curation.tables import read_about

_STRAY_FILES = ("hidden_file", "readme")
IMAGE_EXTENSIONS = ("jpg", "JPG", "jpeg", "png", "webp", "final.jpg")


@dataclass
class Demo:
    """A made dataset, with its tars read by ``tarfile``."""

    storage: MemoryStorage
    dataset: DemoDataset
    planted: list[dict[str, Any]]
    members: dict[str, dict[str, bytes]]
    """Shard to member name to bytes, in the order of the tar."""

    def of(self, kind: str) -> list[dict[str, Any]]:
        rows = [row for row in self.planted if row["kind"] == kind]
        assert rows
        return rows

    def files(self, row: dict[str, Any]) -> dict[str, bytes]:
        start = f"{row['key']}."
        found = self.members[row["shard"]].items()
        return {n.removeprefix(start): data for n, data in found if n.startswith(start)}

    def image(self, row: dict[str, Any]) -> bytes:
        files = self.files(row)
        return next(files[e] for e in IMAGE_EXTENSIONS if e in files)

    def twin(self, row: dict[str, Any]) -> dict[str, Any]:
        place = row["twin_shard"], row["twin_key"]
        return next(r for r in self.planted if (r["shard"], r["key"]) == place)


@pytest.fixture(scope="module")
def demo() -> Demo:
    storage = MemoryStorage()
    dataset = make_demo_dataset(storage)
    members = {}
    for shard in dataset.shards:
        with tarfile.open(fileobj=storage.open_reader(f"{shard}.tar")) as tar:
            read = {m.name: tar.extractfile(m) for m in tar if m.isfile()}
        members[shard] = {name: file.read() for name, file in read.items() if file}
    return Demo(storage, dataset, read_planted(storage).to_pylist(), members)


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def test_it_has_eight_shards_of_a_hundred_samples_of_a_few_megabytes(demo: Demo) -> None:
    assert len(demo.dataset.shards) == 8
    assert demo.dataset.num_samples == 800
    samples = Counter(r["shard"] for r in demo.planted if r["expected"] != "ignored")
    assert samples == dict.fromkeys(demo.dataset.shards, 100)
    sizes = [demo.storage.stat(f"{shard}.tar").size for shard in demo.dataset.shards]
    assert sum(sizes) == demo.dataset.num_bytes
    assert max(sizes) < 4 << 20


def test_some_shards_lie_in_a_folder(demo: Demo) -> None:
    folders = Counter("/" in shard for shard in demo.dataset.shards)
    assert folders == {False: 4, True: 4}
    assert list(demo.dataset.shards) == sorted(demo.dataset.shards)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(demo: Demo) -> None:
    again, other = MemoryStorage(), MemoryStorage()
    make_demo_dataset(again)
    make_demo_dataset(other, seed=1)
    for path in demo.storage.files:
        assert again.read(path) == demo.storage.read(path)
        assert other.read(path) != demo.storage.read(path)


def test_what_is_there_already_is_not_written_again(demo: Demo) -> None:
    before = dict(demo.storage.files)
    again = make_demo_dataset(demo.storage)
    assert demo.dataset.made
    assert not again.made
    assert demo.storage.files == before


def test_a_lost_shard_is_made_again(demo: Demo) -> None:
    storage = MemoryStorage(files=dict(demo.storage.files))
    storage.delete("train/00005.tar")
    assert make_demo_dataset(storage).made
    assert storage.read("train/00005.tar") == demo.storage.read("train/00005.tar")


def test_an_interrupted_change_of_seed_is_noticed(
    demo: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = MemoryStorage(files=dict(demo.storage.files))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MemoryStorage, "write", _until("00002.tar"))
        make_demo_dataset(storage, seed=1)
    assert make_demo_dataset(storage).made
    assert storage.read("00000.tar") == demo.storage.read("00000.tar")


def _until(stop: str) -> Any:
    write = MemoryStorage.write

    def written(self: MemoryStorage, path: str, data: bytes | memoryview) -> None:
        if path == stop:
            raise KeyboardInterrupt
        write(self, path, data)

    return written


def test_it_goes_into_a_folder_of_a_real_storage(tmp_path: Any) -> None:
    storage = LocalStorage(tmp_path)
    made = make_demo_dataset(storage, "raw/demo", num_shards=3, samples_per_shard=77)
    paths = [file.path for file in storage.list_files()]
    expected = [f"raw/demo/{shard}.tar" for shard in made.shards]
    assert paths == sorted([*expected, "raw/demo/planted.parquet"])
    assert made.planted_path == "raw/demo/planted.parquet"
    assert len(read_planted(storage, "raw/demo")) == 3 * (77 + 3)


def test_every_sample_is_in_the_table_once_and_nothing_else_is(demo: Demo) -> None:
    places = [(row["shard"], row["key"]) for row in demo.planted]
    assert len(set(places)) == len(places)
    explained = Counter(
        row["shard"] for row in demo.planted for _ in demo.files(row)
    ) + Counter(row["shard"] for row in demo.planted if row["kind"] in _STRAY_FILES)
    assert explained == {s: len(members) for s, members in demo.members.items()}


def test_every_kind_is_planted_as_often_as_it_says(demo: Demo) -> None:
    found = Counter(row["kind"] for row in demo.planted)
    assert set(found) == set(KINDS)
    for name, kind in KINDS.items():
        copies = 2 if name == "exact_copy_threefold" else 1
        if name != "photograph":
            assert found[name] == 8 * copies * kind.per_shard, name
    for row in demo.planted:
        kind = KINDS[row["kind"]]
        assert (row["expected"], row["decided_by"]) == (kind.expected, kind.decided_by)


def test_exact_copies_have_their_twins_bytes_and_a_larger_key(demo: Demo) -> None:
    for kind in ("exact_copy", "exact_copy_threefold", "exact_copy_same_shard"):
        for row in demo.of(kind):
            twin = demo.twin(row)
            assert demo.image(row) == demo.image(twin)
            assert row["key"] > twin["key"]
            assert twin["expected"] == "kept"
            same_shard = row["shard"] == twin["shard"]
            assert same_shard == (kind == "exact_copy_same_shard")
            assert demo.files(row)["txt"] != demo.files(twin)["txt"]


def test_threefold_copies_lie_in_three_shards(demo: Demo) -> None:
    groups = defaultdict(set)
    for row in demo.of("exact_copy_threefold"):
        twin = row["twin_shard"], row["twin_key"]
        groups[twin] |= {row["shard"], row["twin_shard"]}
    assert [len(shards) for shards in groups.values()] == [3] * 8


def test_whoever_has_the_same_image_bytes_is_a_planted_copy(demo: Demo) -> None:
    groups = defaultdict(list)
    for row in demo.planted:
        if row["expected"] in ("kept", "dropped"):
            groups[hashlib.sha256(demo.image(row)).hexdigest()].append(row)
    for rows in groups.values():
        first, *others = sorted(rows, key=lambda row: row["key"])
        assert first["twin_key"] is None or first["kind"].startswith("near_copy")
        for row in others:
            assert row["kind"].startswith("exact_copy")
            assert (row["twin_shard"], row["twin_key"]) == (first["shard"], first["key"])


def small_grey(data: bytes) -> np.ndarray:
    grey = opened(data).convert("L").resize((24, 24), Image.Resampling.BOX)
    pixels = np.asarray(grey, dtype=np.float64).ravel()
    pixels -= pixels.mean()
    return pixels / np.linalg.norm(pixels)


@pytest.mark.parametrize(
    "kind", ["near_copy_resize", "near_copy_quality", "near_copy_crop", "near_copy_colour"]
)
def test_near_copies_look_like_their_twins_and_have_other_bytes(
    demo: Demo, kind: str
) -> None:
    for row in demo.of(kind):
        ours, theirs = demo.image(row), demo.image(demo.twin(row))
        assert ours != theirs
        assert small_grey(ours) @ small_grey(theirs) > (0.5 if "crop" in kind else 0.98)
        size, twin_size = opened(ours).size, opened(theirs).size
        assert min(size) >= 200
        assert (size == twin_size) == (kind in ("near_copy_quality", "near_copy_colour"))
        assert size[0] * size[1] <= twin_size[0] * twin_size[1]


def test_samples_that_are_no_copies_show_regions_that_hardly_overlap(demo: Demo) -> None:
    shown = defaultdict(list)
    for row in demo.planted:
        whole = row["expected"] in ("kept", "dropped") or row["kind"] == "dotted_base_name"
        if whole and row["twin_key"] is None:
            shown[row["photograph"]].append(row["region"])
    assert sum(len(regions) for regions in shown.values()) == 608
    for regions in shown.values():
        boxes = np.array(regions)
        left, top = np.maximum(boxes[:, None, :2], boxes[None, :, :2]).transpose(2, 0, 1)
        right, low = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]).transpose(2, 0, 1)
        shared = np.clip(right - left, 0, None) * np.clip(low - top, 0, None)
        area = np.diag(shared)
        overlap = shared / (area[:, None] + area[None, :] - shared)
        np.fill_diagonal(overlap, 0)
        assert overlap.max() <= 0.25


def test_samples_that_are_kept_do_not_look_like_copies_of_each_other(demo: Demo) -> None:
    rows = [r for r in demo.planted if r["expected"] == "kept" and not r["twin_key"]]
    ours = np.stack([small_grey(demo.image(row)) for row in rows])
    mirrored = ours.reshape(-1, 24, 24)[:, :, ::-1].reshape(ours.shape)
    alike = np.abs(np.maximum(ours @ ours.T, ours @ mirrored.T))
    np.fill_diagonal(alike, 0)
    assert alike.max() < 0.98  # that of near copies is above 0.98, save for cropped ones


def laplacian_variance(data: bytes) -> float:
    grey = opened(data).convert("L").resize((128, 128), Image.Resampling.BOX)
    p = np.asarray(grey, dtype=np.float64)
    around = p[:-2, 1:-1] + p[2:, 1:-1] + p[1:-1, :-2] + p[1:-1, 2:]
    return float((4 * p[1:-1, 1:-1] - around).var())


def test_blurred_images_are_less_sharp_than_nearly_all_others(demo: Demo) -> None:
    blurred = [laplacian_variance(demo.image(row)) for row in demo.of("blurred")]
    sharp = [laplacian_variance(demo.image(row)) for row in demo.of("photograph")]
    assert np.quantile(blurred, 0.95) < np.quantile(sharp, 0.05)


def test_a_probe_has_labels_on_shards_to_train_and_others_to_test(demo: Demo) -> None:
    labels = Counter(
        (row["shard"], row["split"], row["sharpness_label"])
        for row in demo.planted
        if row["split"]
    )
    assert set(labels.values()) == {12}
    assert len(labels) == 16
    splits = {split: {s for s, t, _ in labels if t == split} for split in ("train", "test")}
    assert not splits["train"] & splits["test"]
    assert len(splits["train"]) == len(splits["test"]) == 4
    for row in demo.planted:
        expected = {"sharp": "kept", "blurred": "dropped"}.get(row["sharpness_label"])
        assert expected in (None, row["expected"])


def test_tiny_images_are_just_those_that_are_kept_for_nothing_else(demo: Demo) -> None:
    sides = [min(opened(demo.image(row)).size) for row in demo.of("tiny")]
    assert max(sides) == 199
    assert min(sides) == 1
    for row in demo.of("smallest_kept"):
        assert min(opened(demo.image(row)).size) == 200
    for row in demo.planted:
        if row["expected"] == "kept":
            assert min(opened(demo.image(row)).size) >= 200


def test_truncated_jpegs_begin_well_and_end_early_at_several_places(demo: Demo) -> None:
    edits = set()
    for row in demo.of("truncated_jpeg"):
        data = demo.image(row)
        assert data.startswith(b"\xff\xd8")
        assert not data.endswith(b"\xff\xd9")
        with pytest.raises((OSError, UnidentifiedImageError)):
            opened(data)
        edits.add(row["edit"])
    assert len(edits) == 6


@pytest.mark.parametrize("kind", ["garbage", "empty_file", "html_page"])
def test_no_program_takes_these_for_images(demo: Demo, kind: str) -> None:
    for row in demo.of(kind):
        assert "jpg" in demo.files(row)
        with pytest.raises(UnidentifiedImageError):
            opened(demo.image(row))
    if kind == "empty_file":
        assert {demo.image(row) for row in demo.of(kind)} == {b""}
    if kind == "html_page":
        assert all(demo.image(row).startswith(b"<!DOCTYPE") for row in demo.of(kind))


@pytest.mark.parametrize(
    ("kind", "extension", "encoding", "mode"),
    [
        ("png", "png", "PNG", "RGB"),
        ("png_with_alpha", "png", "PNG", "RGBA"),
        ("png_named_jpg", "jpg", "PNG", "RGB"),
        ("webp", "webp", "WEBP", "RGB"),
        ("webp_named_jpg", "jpg", "WEBP", "RGB"),
        ("jpg_named_png", "png", "JPEG", "RGB"),
        ("grey_jpg", "jpg", "JPEG", "L"),
        ("cmyk_jpg", "jpg", "JPEG", "CMYK"),
        ("exif_rotated", "jpg", "JPEG", "RGB"),
        ("progressive_jpg", "jpg", "JPEG", "RGB"),
        ("upper_case_extension", "JPG", "JPEG", "RGB"),
        ("jpeg_extension", "jpeg", "JPEG", "RGB"),
        ("dotted_base_name", "final.jpg", "JPEG", "RGB"),
    ],
)
def test_formats_and_extensions_are_what_the_kind_says(
    demo: Demo, kind: str, extension: str, encoding: str, mode: str
) -> None:
    for row in demo.of(kind):
        image = opened(demo.files(row)[extension])
        assert (image.format, image.mode) == (encoding, mode)
        assert bool(image.info.get("progressive")) == (kind == "progressive_jpg")
        assert image.getexif().get(0x0112, 1) == (6 if kind == "exif_rotated" else 1)


def test_captions_are_there_but_for_the_kinds_that_have_none(demo: Demo) -> None:
    for row in demo.planted:
        if row["kind"] in ("readme", "hidden_file", "folder_entry", "dotted_base_name"):
            continue
        caption = demo.files(row).get("txt")
        if row["kind"] == "no_caption_file":
            assert caption is None
        elif row["kind"] == "empty_caption":
            assert caption == b""
        else:
            assert caption
            assert len(caption.split()) >= 3


def test_the_json_has_what_a_laion_set_has_and_fits_the_image(demo: Demo) -> None:
    fields = {"key", "caption", "url", "width", "height", "similarity", "pwatermark"}
    fields |= {"punsafe", "LANGUAGE", "sha256"}
    for row in demo.of("photograph") + demo.of("tiny") + demo.of("near_copy_crop"):
        files = demo.files(row)
        noted = json.loads(files["json"])
        assert fields <= set(noted)
        assert noted["key"] == row["key"]
        assert noted["caption"] == files["txt"].decode()
        assert (noted["width"], noted["height"]) == opened(demo.image(row)).size
        assert noted["sha256"] == hashlib.sha256(demo.image(row)).hexdigest()
        assert noted["url"].startswith("https://images.example.org/")


def test_names_are_odd_in_the_ways_their_kinds_say(demo: Demo) -> None:
    assert all(row["key"].startswith("album.v1.0/") for row in demo.of("dotted_folder"))
    assert all(len(row["key"]) > 120 for row in demo.of("long_name"))
    assert {row["key"] for row in demo.of("key_in_every_shard")} == {"cover"}
    covers = {demo.image(row) for row in demo.of("key_in_every_shard")}
    assert len(covers) == 8
    assert all("mask.png" in demo.files(row) for row in demo.of("extra_component"))
    for row in demo.of("no_image"):
        assert set(demo.files(row)) == {"txt", "json"}


def test_members_of_one_sample_are_apart_just_where_that_is_planted(demo: Demo) -> None:
    for shard, members in demo.members.items():
        keys = [name.rpartition("/")[0] + name.rpartition("/")[2].partition(".")[0]
                for name in members]  # fmt: skip
        runs = [key for i, key in enumerate(keys) if i == 0 or keys[i - 1] != key]
        apart = [key for key, count in Counter(runs).items() if count > 1]
        planted = [row["key"] for row in demo.of("not_adjacent") if row["shard"] == shard]
        assert apart == planted


def test_webdataset_reads_every_sample_whose_members_are_together(
    demo: Demo,
) -> None:
    expected = ("kept", "dropped", "quarantined")
    for shard in ("00000", "00001", "train/00005"):
        source = {"url": shard, "stream": demo.storage.open_reader(f"{shard}.tar")}
        files = webdataset.tariterators.tar_file_expander([source])
        found = webdataset.tariterators.group_by_keys(files)
        samples = {sample["__key__"]: sample for sample in found}
        rows = [
            r for r in demo.planted if r["shard"] == shard and r["expected"] in expected
        ]
        assert set(samples) == {row["key"] for row in rows}
        for row in rows:
            if row["kind"] != "not_adjacent":
                theirs = samples[row["key"]].items()
                ours = {k.lower(): data for k, data in demo.files(row).items()}
                assert {k: v for k, v in theirs if k[:2] != "__"} == ours


def test_tars_come_in_three_formats(demo: Demo) -> None:
    starts = []
    for shard in demo.dataset.shards[:3]:
        data = demo.storage.read(f"{shard}.tar")
        blocks = [data[i : i + 512] for i in range(0, len(data), 512)]
        headers = [b for b in blocks if b[257:262] == b"ustar"]
        starts.append({(bytes(b[257:263]), chr(b[156])) for b in headers})
    assert (b"ustar ", "L") in starts[0]
    assert (b"ustar\0", "x") in starts[1]
    assert {kind for _, kind in starts[2]} == {"0", "5"}


def test_outcomes_are_counted_per_kind(demo: Demo) -> None:
    samples = [row for row in demo.planted if row["expected"] != "ignored"]
    found = [
        {"shard": row["shard"], "key": row["key"], "outcome": row["expected"]}
        for row in samples
    ]
    missed = next(i for i, row in enumerate(samples) if row["kind"] == "tiny")
    found[missed]["outcome"] = "kept"
    planted = read_planted(demo.storage)
    counts = compare_with_planted(planted, pa.Table.from_pylist(found)).to_pylist()
    assert [row["kind"] for row in counts] == list(KINDS)
    assert sum(row["planted"] for row in counts) == len(planted)
    for row in counts:
        missing = 1 if row["kind"] == "tiny" else 0
        assert row["as_expected"] == row["planted"] - missing


def test_found_copies_are_counted_against_the_planted_ones(demo: Demo) -> None:
    def removed(row: dict[str, Any], survivor: dict[str, Any]) -> dict[str, Any]:
        named = {"survivor_shard": survivor["shard"], "survivor_key": survivor["key"]}
        return {"shard": row["shard"], "key": row["key"]} | named

    crop, resize, exact = map(demo.of, ("near_copy_crop", "near_copy_resize", "exact_copy"))
    one, other = demo.of("photograph")[:2]
    found = [
        removed(crop[0], demo.twin(crop[0])),
        removed(demo.twin(resize[0]), resize[0]),
        removed(exact[0], demo.twin(exact[0])),
        removed(one, other),
        removed(crop[1], one),
    ]
    counts = count_found_copies(read_planted(demo.storage), pa.Table.from_pylist(found))
    assert counts == FoundCopies(near=72, near_found=2, wrong=2)


def test_the_truth_says_what_it_was_made_from(demo: Demo) -> None:
    about = read_about(demo.storage, demo.dataset.planted_path)
    assert about["table"] == "planted"
    assert len(about["fingerprint"]) == 32


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"num_shards": 2}, "num_shards is 2; expected at least 3"),
        ({"samples_per_shard": 20}, "samples_per_shard is 20; expected at least 77"),
        ({"seed": -1}, "seed is -1; expected at least 0"),
        ({"num_shards": 50}, "photographs have 732; lower either"),
    ],
)
def test_numbers_out_of_range_are_refused(numbers: dict[str, int], message: str) -> None:
    storage = MemoryStorage()
    with pytest.raises(InputError, match=message):
        make_demo_dataset(storage, **numbers)
    assert not storage.files


def test_other_peoples_tars_are_not_mixed_in() -> None:
    storage = MemoryStorage()
    storage.write("holiday.tar", b"")
    with pytest.raises(InputError, match=r"holiday\.tar is no shard of this demo"):
        make_demo_dataset(storage)


def test_a_folder_without_the_dataset_has_no_truth() -> None:
    with pytest.raises(NotFoundError):
        read_planted(MemoryStorage())
