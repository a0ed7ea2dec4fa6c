"""What other programs' readers can't read of a release, told by name before they fail.

webdataset takes extensions in lower case, and refuses a sample that has one twice. Hugging
Face's ``load_dataset("webdataset")`` wants the same components, to the letter, of every
sample. Neither is told by a tar that is whole.

Source: webdataset 1.0, ``tariterators.group_by_keys``; datasets 4, ``packaged_modules/
webdataset``.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from curation.dali_index import count_extensions
from curation.errors import UnknownNameError
from curation.release.manifest import Manifest, table_path
from curation.storage.base import Storage
from curation.tables import FILTERED, read_table

MOST_KINDS = 4  # of samples, in a warning


def find_unreadable(storage: Storage, manifest: Manifest) -> tuple[str, ...]:
    """Say what some reader can't read of a release; reads the ``.idx`` of every tar.

    Where damaged images are kept, a column of every table, too.

    Args:
        storage: Where the release is.
        manifest: Of the release, with its tars.
    """
    kinds: Counter[tuple[str, ...]] = Counter()
    doubles: Counter[str] = Counter()
    for shard in manifest.shards:
        path = f"{manifest.folder}/{shard.files[1].path}"
        for extensions, count in count_extensions(storage.read(path), path).items():
            kinds[tuple(sorted(extensions))] += count
            for one, times in Counter(map(str.lower, extensions)).items():
                doubles[one] += count if times > 1 else 0
    return (*_doubled(+doubles), *_mixed(kinds), *_damaged(storage, manifest))


def _doubled(doubles: Counter[str]) -> list[str]:
    return [
        f"webdataset refuses {count:,} sample(s) that have {one!r} twice, in capitals and "
        "not; release.extensions: unify gives each a name of its own"
        for one, count in doubles.most_common()
    ]


def _mixed(kinds: Counter[tuple[str, ...]]) -> list[str]:
    """Warn of samples that have other components than most."""
    if len(kinds) < 2:
        return []
    told = [f"{'+'.join(kind)} ({n:,})" for kind, n in kinds.most_common(MOST_KINDS)]
    more = ["…"] * (len(kinds) > MOST_KINDS)
    same = {
        tuple(sorted({"jpg" if one in _IMAGES else one for one in _lower(kind)}))
        for kind in kinds
    }
    mend = (
        "release.extensions: unify calls all images jpg, and mends it"
        if len(same) == 1
        else "samples lack components that others have, which no setting mends"
    )
    return [
        'Hugging Face\'s load_dataset("webdataset") wants the same files of every sample, '
        f"and may refuse these: {', '.join([*told, *more])}; {mend}"
    ]


def _damaged(storage: Storage, manifest: Manifest) -> list[str]:
    """Warn of images that Pillow refuses, which a recipe may keep."""
    images = manifest.recipe.get("images", {})
    if images.get("on_corruption", "quarantine") != "keep":
        return []
    count = 0
    for shard in manifest.shards:
        # of an earlier release, it may have been made when none was kept
        with suppress(UnknownNameError):
            path = table_path(manifest, shard)
            reasons = read_table(storage, path, FILTERED, ["corruption"])["corruption"]
            count += len(reasons) - reasons.null_count
    if not count:
        return []
    return [
        f"images.on_corruption: keep has kept {count:,} damaged image(s), which Pillow "
        "refuses, and so webdataset's decode(\"pil\"), Hugging Face's datasets and the "
        "loaders of curation.training, unless a handler or LOAD_TRUNCATED_IMAGES lets them "
        "pass; the column corruption says which"
    ]


_IMAGES = frozenset(
    ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "jp2", "gif", "avif")
)


def _lower(kind: Sequence[str]) -> list[str]:
    return [extension.lower() for extension in kind]
