"""The dataset of a notebook, against tarfile, timm, webdataset and NeMo's id arithmetic."""

import io
import json
import logging
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from curation import ImageEmbedder, ImageTextPairDataset
from curation.classifiers import Classifier, EncoderNeed
from curation.dali_index import format_index
from curation.dataset import DatasetShard
from curation.errors import InputError, StaleError, TableError, UnknownNameError
from curation.fingerprint import Json
from curation.index import build_index
from curation.recipe import TextSettings
from curation.storage import LocalStorage
from curation.tables import FILTERED, embedding_column, read_table, write_table
from curation.tar import read_members
from curation.testing.image_shards import make_tar
from curation.testing.pictures import encode, make_picture

PER_SHARD = 6
SHARDS = 3
KEYS = [f"{shard:05d}{row:04d}" for shard in range(SHARDS) for row in range(PER_SHARD)]


def save_tars(folder: Path) -> Path:
    for shard in range(SHARDS):
        members = []
        for key in KEYS[shard * PER_SHARD : (shard + 1) * PER_SHARD]:
            members += [
                (f"{key}.jpg", encode(make_picture(seed=int(key)), "JPEG")),
                (f"{key}.txt", f"caption {key}".encode()),
                (f"{key}.json", json.dumps({"key": key, "width": int(key) % 7}).encode()),
                (f"{key}.seg.png", key.encode()),
            ]
        (folder / f"{shard:05d}.tar").write_bytes(make_tar(members))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "raw").mkdir()
    return save_tars(tmp_path / "raw")


def save_tables(folder: Path) -> None:
    """Save tables as img2dataset does: in any order, with downloads that failed."""
    for shard in range(SHARDS):
        keys = KEYS[shard * PER_SHARD : (shard + 1) * PER_SHARD]
        keys = [f"{shard:05d}9999", *reversed(keys)]
        status = ["failed_to_download"] + ["success"] * PER_SHARD
        table = pa.table({"key": keys, "status": status, "number": list(map(int, keys))})
        pq.write_table(table, folder / f"{shard:05d}.parquet")


def contents(folder: Path) -> dict[str, dict[str, bytes]]:
    """Read all tars of a folder: key to extension to bytes."""
    found: dict[str, dict[str, bytes]] = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                file = tar.extractfile(member)
                assert file is not None
                found.setdefault(key, {})[extension] = file.read()
    return found


class Colours(ImageEmbedder):
    """The mean colour, read by tarfile in another order than the tar's."""

    calls: ClassVar[list[str]] = []

    def load_dataset_shard(
        self, tar_path: str
    ) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
        self.calls.append(tar_path)
        with tarfile.open(tar_path) as tar:
            images = [m for m in reversed(tar.getmembers()) if m.name.endswith(".jpg")]
            for batch in (images[:4], images[4:]):
                pixels = [np.asarray(Image.open(tar.extractfile(m))) for m in batch]
                yield pixels, [{"key": m.name[:-4]} for m in batch]

    def load_embedding_model(self, device: str) -> Any:
        def mean(batch: list[np.ndarray]) -> torch.Tensor:
            means = torch.tensor(np.stack([pixels.mean(axis=(0, 1)) for pixels in batch]))
            return means / means.norm(dim=1, keepdim=True)

        return mean


@dataclass(frozen=True)
class Redness(Classifier):
    """The first number of the vector."""

    name: ClassVar[str] = "red"
    score_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    higher_is_better: ClassVar[bool] = True
    model: str = "colours"

    @property
    def needs(self) -> EncoderNeed:
        return EncoderNeed(dim=3, models=(self.model,))

    def weights_sha256(self) -> Json:
        return None

    def score_block(
        self, rows: torch.Tensor, _captions: torch.Tensor | None = None
    ) -> torch.Tensor:
        return rows[:, 0]


def colour(jpeg: bytes) -> np.ndarray:
    mean = np.asarray(Image.open(io.BytesIO(jpeg))).mean(axis=(0, 1))
    return mean / np.linalg.norm(mean)


def test_without_tables_metadata_is_what_the_tars_hold(folder: Path) -> None:
    frame = ImageTextPairDataset.from_webdataset(str(folder)).metadata.collect()
    expected = contents(folder)
    assert frame["key"].to_list() == list(expected)
    for row in frame.iter_rows(named=True):
        stored = expected[row["key"]]
        assert row["caption"] == stored["txt"].decode()
        assert row["width"] == json.loads(stored["json"])["width"]


def save_json(folder: Path, shards: list[list[bytes]]) -> ImageTextPairDataset:
    """Save a tar of each list of documents, without captions."""
    for number, documents in enumerate(shards):
        members = [
            (f"{number}{row}.json", document) for row, document in enumerate(documents)
        ]
        (folder / f"{number}.tar").write_bytes(make_tar(members))
    return ImageTextPairDataset.from_webdataset(str(folder))


@pytest.mark.parametrize(
    ("odd", "value"),
    [
        (b'{"v": [1], "n": 2}', "[1]"),
        (b'{"v": {"a": 1}, "n": 2}', '{"a":1}'),
        (b'{"v": {}, "n": 2}', "{}"),
        (b'{"v": 9223372036854775808, "n": 2}', "9223372036854775808"),
        (b'{"v": true, "n": 2}', "true"),
        (b'{"v": 1.10, "n": 2}', "1.10"),
        (b'{"v": "\\ud800", "n": 2}', "\\ud800"),
        (b'\xef\xbb\xbf{"v": "b", "n": 2}', "b"),
        ('{"v": "b", "n": 2}'.encode("utf-16"), "b"),
        (b'{"v": "\xff", "n": 2}', "\ufffd"),
        (b'{"v": NaN, "n": 2}', "NaN"),
        (b'{"v": 1e400, "n": 2}', "1e400"),
        (b'{"v": ' + b"7" * 5000 + b', "n": 2}', "7" * 5000),
        (b'{"v": null, "\\ud800": 1, "": 2, "a\\u0000": 3, "n": 2}', None),
    ],
    ids=lambda value: repr(value)[:24],
)
@pytest.mark.parametrize("apart", [False, True])
def test_an_odd_sample_costs_at_most_itself(
    tmp_path: Path, odd: bytes, value: str | None, apart: bool
) -> None:
    plain = b'{"v": "x", "n": 1, "key": "not this"}'
    shards = [[plain, plain], [odd]] if apart else [[plain, odd, plain]]
    dataset = save_json(tmp_path, shards)
    frame = dataset.metadata.collect()
    texts = ["x", "x", value] if apart else ["x", value, "x"]
    assert frame["v"].to_list() == texts
    assert frame["n"].to_list() == [1 if text == "x" else 2 for text in texts]
    dataset.save_metadata()
    again = ImageTextPairDataset.from_webdataset(str(tmp_path)).metadata.collect()
    assert again.equals(frame)
    assert pl.read_parquet(tmp_path / "*.parquet").equals(frame)  # of one schema
    dataset.metadata = frame.with_columns(passes=pl.lit(value=True))
    dataset.to_webdataset(str(tmp_path / "out"), "passes")
    written = pl.read_parquet(tmp_path / "out" / "*.parquet")
    assert written.drop("key", "passes").equals(frame.drop("key"))


def test_json_that_can_not_be_read_is_told_by_key_and_shard(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    many = json.dumps(dict.fromkeys(map(str, range(2000)), 0)).encode()
    dataset = save_json(tmp_path, [[b'{"v": 1}', b"{no", b"[1]", many], [b'{"v": 2}']])
    frame = dataset.metadata.collect()
    assert frame.to_dict(as_series=False) == {
        "key": ["00", "01", "02", "03", "10"],
        "v": [1, None, None, None, 2],
    }
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith(
        f"{tmp_path / '0.tar'}: the JSON of 3 of 4 samples can't be read"
    )
    assert "first that of 01: Expecting property name" in told


def test_captions_and_json_may_have_any_extension(tmp_path: Path) -> None:
    members = [
        ("a.txt", b"second"),
        ("a.Outputs.txt", "Bär".encode("utf-16")),
        ("a.meta.json", b'{"v": 1}'),
        ("b.txt", b"only"),
        ("b.json", b'{"v": 2}'),
    ]
    (tmp_path / "0.tar").write_bytes(make_tar(members))
    texts = TextSettings(
        caption_extensions=("outputs.txt", "txt"), metadata_extensions=("meta.json",)
    )
    dataset = ImageTextPairDataset.from_webdataset(str(tmp_path), texts=texts)
    found = dataset.metadata.collect().to_dict(as_series=False)
    assert found == {"key": ["a", "b"], "caption": ["Bär", "only"], "v": [1, None]}


def test_tables_of_other_types_are_read_as_one(tmp_path: Path) -> None:
    save_json(tmp_path, [[b"{}"], [b"{}"], ['{"n": 2.5, "s": "ü"}'.encode()]])
    pq.write_table(pa.table({"key": ["00"], "n": [1], "s": [b"x"]}), tmp_path / "0.parquet")
    pq.write_table(pa.table({"key": [10], "n": pa.array([None])}), tmp_path / "1.parquet")
    frame = ImageTextPairDataset.from_webdataset(str(tmp_path)).metadata.collect()
    assert frame["key"].to_list() == ["00", "10", "20"]
    assert frame["n"].to_list() == [1.0, None, 2.5]
    assert frame["s"].to_list()[1:] == [None, "ü"]


def test_vectors_are_joined_by_key_and_failed_downloads_are_kept_and_reported(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_tables(folder)
    dataset = Colours("colours")(ImageTextPairDataset.from_webdataset(str(folder)))
    frame = dataset.metadata.collect()
    stored = contents(folder)
    assert len(frame) == SHARDS * (PER_SHARD + 1)
    for row in frame.iter_rows(named=True):
        if row["key"] in stored:
            expected = colour(stored[row["key"]]["jpg"])
            np.testing.assert_allclose(row["image_embedding"], expected, atol=1e-6)
        else:
            assert row["status"] == "failed_to_download"
            assert row["image_embedding"] is None
    assert "1 of 7 rows have no sample" in caplog.text


def test_nothing_is_computed_before_it_is_needed(folder: Path) -> None:
    Colours.calls.clear()
    dataset = Redness()(
        Colours("colours")(ImageTextPairDataset.from_webdataset(str(folder)))
    )
    lazy = dataset.metadata.filter(pl.col("red_score") > 2)
    assert not Colours.calls
    assert lazy.collect().is_empty()
    assert set(Colours.calls) == {str(path) for path in folder.glob("*.tar")}


def test_classifiers_score_what_was_just_embedded(folder: Path) -> None:
    embedder = Colours("colours", classifiers=[Redness()])
    frame = embedder(ImageTextPairDataset.from_webdataset(str(folder))).metadata.collect()
    expected = [colour(sample["jpg"])[0] for sample in contents(folder).values()]
    np.testing.assert_allclose(frame["red_score"], expected, atol=1e-3)  # of half floats


def test_scores_of_another_models_vectors_are_refused(folder: Path) -> None:
    dataset = Colours("colours")(ImageTextPairDataset.from_webdataset(str(folder)))
    with pytest.raises(InputError, match="understands embeddings of other"):
        Redness(model="other")(dataset).save_metadata()
    assert not list(folder.glob("*.parquet"))


def test_saved_metadata_has_the_shards_names_and_remembers_the_encoder(
    folder: Path, tmp_path: Path
) -> None:
    save_tables(folder)
    dataset = Colours("colours")(ImageTextPairDataset.from_webdataset(str(folder)))
    dataset.save_metadata()
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        f"{shard:05d}.{extension}" for shard in range(3) for extension in ("parquet", "tar")
    )
    assert pq.read_schema(folder / "00000.parquet").names == [
        "key", "status", "number", "image_embedding",
    ]  # fmt: skip
    again = Redness()(ImageTextPairDataset.from_webdataset(str(folder)))
    again.save_metadata(str(tmp_path / "scores"), columns=["red_score"])
    table = pq.read_table(tmp_path / "scores" / "00001.parquet")
    assert table.column_names == ["key", "red_score"]
    assert table.num_rows == PER_SHARD + 1
    assert table["red_score"].null_count == 1


def test_the_table_of_a_filtered_shard_stays_one(folder: Path) -> None:
    storage = LocalStorage(folder)
    for shard in range(SHARDS):
        vectors = np.eye(3)[np.arange(PER_SHARD) % 3]
        columns = {
            "key": KEYS[shard * PER_SHARD : (shard + 1) * PER_SHARD],
            "image_embedding": embedding_column(vectors, np.ones(PER_SHARD, bool)),
        }
        path, encoder = f"{shard:05d}.parquet", {"model": "colours", "dim": 3}
        table = pa.table(columns)
        write_table(storage, path, FILTERED, table, fingerprint="f", encoder=encoder)
    before = read_table(storage, "00000.parquet", FILTERED)
    Redness()(ImageTextPairDataset.from_webdataset(str(folder))).save_metadata()
    after = read_table(storage, "00000.parquet", FILTERED)
    assert after["image_embedding"].equals(before["image_embedding"])
    assert after["red_score"].to_pylist() == [1, 0, 0, 1, 0, 0]


def test_assigned_metadata_adds_columns_and_leaves_rows_out(
    folder: Path, tmp_path: Path
) -> None:
    dataset = ImageTextPairDataset.from_webdataset(str(folder))
    dataset.metadata = dataset.metadata.with_columns(
        even=pl.col("key").cast(pl.Int64) % 2 == 0
    ).filter(pl.col("width") > 0)
    dataset = Colours("colours")(dataset)
    dataset.save_metadata(str(tmp_path / "out"))
    found = pl.read_parquet(tmp_path / "out" / "*.parquet")
    expected = [key for key in KEYS if int(key) % 7]
    assert found["key"].to_list() == expected
    assert found["even"].to_list() == [int(key) % 2 == 0 for key in expected]
    assert found["image_embedding"].null_count() == 0


@pytest.mark.parametrize("samples_per_shard", [1, 4, 10_000])
def test_samples_that_pass_are_written_with_new_ids_and_the_same_bytes(
    folder: Path, tmp_path: Path, samples_per_shard: int
) -> None:
    save_tables(folder)  # rows of failed downloads pass too, and have no sample
    dataset = ImageTextPairDataset.from_webdataset(str(folder))
    dataset.metadata = dataset.metadata.with_columns(
        passes=(pl.col("number") % 2 == 1) & ~pl.col("key").str.starts_with("00001")
    )
    out = tmp_path / "out"
    dataset.to_webdataset(
        str(out), "passes", samples_per_shard=samples_per_shard, old_id_col="old"
    )
    kept = [key for key in reversed(KEYS[:6]) if int(key) % 2]
    kept += [key for key in reversed(KEYS[12:]) if int(key) % 2]
    old, new = contents(folder), contents(out)
    digits = int(np.ceil(np.log10(samples_per_shard)))
    ids = [
        str(number % samples_per_shard + 10**digits * (number // samples_per_shard))
        for number in range(len(kept))
    ]
    assert list(new) == [number.zfill(digits + 5) for number in ids]
    assert list(new.values()) == [old[key] for key in kept]
    table = pl.read_parquet(out / "*.parquet")
    assert table["key"].to_list() == list(new)
    assert table["old"].to_list() == kept
    storage = LocalStorage(out)
    names = [path.stem for path in sorted(out.glob("*.tar"))]
    assert names == [f"{n:05d}" for n in range(-(-len(kept) // samples_per_shard))]
    for name in names:
        index = build_index(read_members(storage, f"{name}.tar"))
        assert storage.read(f"{name}.idx") == format_index(index)


def test_a_tar_that_was_replaced_since_its_samples_were_found_is_not_copied(
    folder: Path, tmp_path: Path
) -> None:
    def replace_the_first(shard: DatasetShard, frame: pl.DataFrame) -> pl.DataFrame:
        if shard.name == "00001":
            first = folder / "00000.tar"
            first.write_bytes(first.read_bytes()[::-1])
        return frame.with_columns(passes=pl.lit(value=True))

    dataset = ImageTextPairDataset.from_webdataset(str(folder), id_col="key")
    with pytest.raises(StaleError, match=r"00000\.tar: .* replaced"):
        dataset.with_step(replace_the_first).to_webdataset(str(tmp_path / "out"), "passes")
    assert not list(tmp_path.glob("out/*.tar"))


def test_no_sample_that_passes_gives_no_shard(folder: Path, tmp_path: Path) -> None:
    dataset = ImageTextPairDataset.from_webdataset(str(folder))
    dataset.metadata = dataset.metadata.with_columns(passes=pl.lit(value=False))
    dataset.to_webdataset(str(tmp_path / "out"), "passes")
    assert not (tmp_path / "out").exists()


def test_what_can_not_be_written_is_refused(folder: Path, tmp_path: Path) -> None:
    dataset = ImageTextPairDataset.from_webdataset(str(folder))
    dataset.metadata = dataset.metadata.with_columns(passes=pl.lit(value=True))
    with pytest.raises(InputError, match="has tars already"):
        dataset.to_webdataset(str(folder), "passes")
    with pytest.raises(UnknownNameError, match="passed"):
        dataset.to_webdataset(str(tmp_path / "a"), "passed")
    with pytest.raises(InputError, match="number 10 shards"):
        dataset.to_webdataset(str(tmp_path / "b"), "passes", 1, max_shards=1)
    with pytest.raises(InputError, match="at least 1"):
        dataset.to_webdataset(str(tmp_path / "c"), "passes", 0)
    with pytest.raises(UnknownNameError, match="score"):
        dataset.save_metadata(columns=["score"])


def test_folders_that_are_no_dataset_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no \.tar"):
        ImageTextPairDataset.from_webdataset(str(tmp_path / "empty"))
    with pytest.raises(UnknownNameError, match="'uid'"):
        ImageTextPairDataset.from_webdataset(str(folder), "uid").save_metadata()
    save_tables(folder)
    table = pa.table({"key": [KEYS[0], KEYS[0]]})
    pq.write_table(table, folder / "00000.parquet")
    with pytest.raises(TableError, match="comes twice"):
        ImageTextPairDataset.from_webdataset(str(folder)).save_metadata()
    (folder / "00000.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(TableError, match=r"00000\.parquet: no Parquet"):
        ImageTextPairDataset.from_webdataset(str(folder)).save_metadata()


def test_tables_without_a_tar_are_reported(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_tables(folder)
    (folder / "00002.tar").unlink()
    with caplog.at_level(logging.WARNING):
        dataset = ImageTextPairDataset.from_webdataset(str(folder))
    assert "1 tables have no tar" in caplog.text
    assert len(dataset.shards) == 2


@pytest.mark.parametrize(
    "column", [pl.lit(1), pl.lit("True"), pl.lit(0.7), pl.lit(None), pl.lit([True])]
)
def test_a_filter_column_that_is_not_boolean_is_refused(
    folder: Path, tmp_path: Path, column: pl.Expr
) -> None:
    dataset = ImageTextPairDataset.from_webdataset(str(folder))
    dataset.metadata = dataset.metadata.with_columns(column.alias("good"))
    with pytest.raises(TableError, match=r"00000\.tar: filter_column 'good' holds"):
        dataset.to_webdataset(str(tmp_path / "out"), "good")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("ids", [pl.Int64, pl.Float64, pl.String])
def test_ids_that_are_no_keys_are_refused_not_an_empty_output(
    folder: Path, tmp_path: Path, ids: type[pl.DataType]
) -> None:
    dataset = ImageTextPairDataset.from_webdataset(str(folder))
    frame = dataset.metadata.collect()
    numbers = pl.Series("uid", range(900, 900 + len(frame))).cast(ids)
    dataset.metadata = frame.with_columns(numbers, good=True)
    dataset.save_metadata()
    again = ImageTextPairDataset.from_webdataset(str(folder), id_col="uid")
    with pytest.raises(TableError, match=r"no row of column 'uid' .*choose the column"):
        again.to_webdataset(str(tmp_path / "out"), "good")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([[1.0, 2.0], [1.0]], "have 1 to 2 numbers"),
        ([[1.0, 2.0], []], "have 0 to 2 numbers"),
        ([[1.0, None], [1.0, 2.0]], "has a null among its numbers"),
        (["a", "b"], "expected lists of numbers"),
        ([["a"], ["b"]], "expected lists of numbers"),
        ([1.0, 2.0], "expected lists of numbers"),
    ],
)
def test_vectors_that_are_none_are_told(vectors: list[Any], message: str) -> None:
    from curation.dataset import _matrix

    with pytest.raises(TableError, match=message):
        _matrix(pl.Series("image_embedding", vectors), "x.tar")


def test_vectors_of_lists_and_arrays_become_a_matrix() -> None:
    from curation.dataset import _matrix

    rows = [[1.0, 2.0], None, [3.0, 4.0]]
    for kind in (pl.List(pl.Float64), pl.Array(pl.Float32, 2), pl.List(pl.Int32)):
        found, valid = _matrix(
            pl.Series("v", rows).cast(pl.List(pl.Float64)).cast(kind), "x"
        )
        assert found.tolist() == [[1, 2], [0, 0], [3, 4]]
        assert valid.tolist() == [True, False, True]
    found, valid = _matrix(pl.Series("v", [None, None]), "x")
    assert (found.shape, valid.tolist()) == ((2, 0), [False, False])
