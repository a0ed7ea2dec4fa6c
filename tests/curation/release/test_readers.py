"""What other readers can't read is told, by what those readers themselves do."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.release.manifest import Manifest
from curation.storage import LocalStorage
from curation.testing.readers import read_with_webdataset
from tests.curation.release.world import (
    FOLDER,
    numbered,
    released,
    samples_of,
    small_recipe,
    write_filtered,
)

Sample = Mapping[str, bytes]

PLAIN = {"jpg": b"\xff\xd8one", "txt": b"words"}
PNG = {"png": b"\x89PNGtwo", "txt": b"words"}
CAPITALS = {"JPG": b"\xff\xd8three", "TXT": b"words"}
BOTH = {"jpg": b"\xff\xd8four", "JPG": b"\xff\xd8five", "txt": b"words"}
WEBP = {"webp": b"RIFFsix", "txt": b"words"}
NO_CAPTION = {"jpg": b"\xff\xd8seven"}


def made_of(
    storage: LocalStorage, samples: list[Sample], extensions: str, keys: str
) -> Manifest:
    named = {f"s{number}": sample for number, sample in enumerate(samples)}
    write_filtered(storage, "a", named)
    recipe = small_recipe(samples_per_shard=3, extensions=extensions, keys=keys)
    return released(storage, recipe, "a")


def loads_with_datasets(folder: Path, cache: Path) -> bool:
    import datasets  # reads HF_HUB_OFFLINE when it is imported

    try:
        loaded = datasets.load_dataset(
            "webdataset",
            data_files=[str(path) for path in sorted(folder.glob("*.tar"))],
            split="train",
            cache_dir=str(cache),
        )
    except (ValueError, datasets.exceptions.DatasetGenerationError):
        return False
    image = datasets.Image(decode=False)
    for name, kind in loaded.features.items():
        if isinstance(kind, datasets.Image):
            loaded = loaded.cast_column(name, image)
    return len(loaded[:]) > 0


def loads_with_webdataset(folder: Path) -> bool:
    try:
        return all(read_with_webdataset(tar) for tar in folder.glob("*.tar"))
    except ValueError:
        return False


@pytest.mark.filterwarnings("ignore")  # of their own use of other packages
@pytest.mark.parametrize("keys", ["renumber", "preserve"])
@pytest.mark.parametrize(
    ("samples", "told", "mended"),
    [
        ([PLAIN, PLAIN], [], True),
        ([PLAIN, PNG], ["Hugging Face"], True),
        ([PNG, WEBP, WEBP, PNG], ["Hugging Face"], True),
        ([PLAIN, CAPITALS], ["Hugging Face"], True),
        ([BOTH, BOTH], ["webdataset"], True),
        ([PLAIN, NO_CAPTION], ["Hugging Face"], False),
    ],
)
def test_what_a_reader_refuses_is_told_and_mended_where_it_can_be(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    samples: list[Sample],
    told: list[str],
    mended: bool,
    keys: str,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    kept, unified = LocalStorage(tmp_path / "keep"), LocalStorage(tmp_path / "unify")
    made = made_of(kept, samples, "keep", keys)
    assert [
        warning.partition("'s")[0].partition(" ref")[0] for warning in made.warnings
    ] == told
    folder = kept.root / made.folder
    assert loads_with_webdataset(folder) == ("webdataset" not in told)
    assert loads_with_datasets(folder, tmp_path / "c1") == ("Hugging Face" not in told)
    card = (folder / "README.md").read_text()
    assert all(warning.replace("|", "\\|") in card for warning in made.warnings)

    again = made_of(unified, samples, "unify", keys)
    assert bool(again.warnings) != mended
    folder = unified.root / again.folder
    assert loads_with_webdataset(folder)
    assert loads_with_datasets(folder, tmp_path / "c2") == mended
    before, after = samples_of(kept, made), samples_of(unified, again)
    assert list(before) == list(after)
    for key, sample in before.items():  # every byte is there, if under another name
        old = {data for name, data in sample.items() if name.lower() != "json"}
        assert old <= set(after[key].values())
        assert len(sample) == len(after[key])


@pytest.mark.parametrize(
    ("rule", "reasons", "num_told"),
    [
        ("keep", [None] * 3, 0),
        ("keep", [None, "broken data stream", None], 1),
        ("keep", None, 0),  # made before any was kept
        ("quarantine", None, 0),
    ],
)
def test_damaged_images_that_were_kept_are_told(
    tmp_path: Path, rule: str, reasons: list[str | None] | None, num_told: int
) -> None:
    storage = LocalStorage(tmp_path)
    write_filtered(storage, "a", numbered(3))
    path = storage.root / FOLDER / "a.parquet"
    if reasons is not None:
        kept = pq.read_table(path)
        pq.write_table(kept.append_column("corruption", pa.array(reasons, "string")), path)
    recipe = small_recipe()
    images = recipe.images.model_copy(update={"on_corruption": rule})
    recipe = recipe.model_copy(update={"images": images})
    warnings = released(storage, recipe, "a").warnings
    assert len(warnings) == num_told
    assert all("kept 1 damaged" in warning for warning in warnings)
