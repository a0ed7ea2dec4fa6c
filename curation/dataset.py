"""A folder of shards as one dataset, for a notebook: embed, score, filter, write.

The calls are those of NeMo Curator's guide, over the same functions that the assets call.
They are lazy: an embedder or a classifier that is called with a dataset gives another
one, and nothing is computed until metadata is looked at or something is written, then
shard after shard. Rows are joined by key. How a shard is embedded belongs in
``dataset_embedders.py``.

Source: NeMo Curator 0.9, user guide, "Image-Text Pair Datasets" (names and contract).
"""

import io
import logging
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil, log10
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.classifiers.base import Classifier
from curation.dali_index import format_index
from curation.dataset_columns import (
    Shape,
    cast_series,
    json_columns,
    series_of,
    shape_of,
    shape_of_series,
)
from curation.errors import InputError, TableError, UnknownNameError
from curation.fingerprint import Json
from curation.index import ShardIndex, build_index
from curation.recipe import DEFAULT_TEXTS, TextSettings
from curation.reshard import END_OF_ARCHIVE
from curation.samples import find_component, read_samples
from curation.scoring import score_embeddings
from curation.storage import ByteRange, Part, Storage, StoredFile, open_storage
from curation.tables import (
    EMBEDDING,
    FILTERED,
    embedding_column,
    table_about,
    to_polars,
    with_about,
    write_table,
)
from curation.tar import read_members
from curation.tar_header import padded
from curation.texts import decode_text

if TYPE_CHECKING:
    import polars as pl

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DatasetShard:
    """One tar of a dataset, and the table beside it."""

    storage: Storage
    name: str
    """Its path without ``.tar``."""

    @property
    def tar(self) -> str:
        """Path of the tar."""
        return f"{self.name}.tar"

    @property
    def table(self) -> str:
        """Path of the table, whether it is there or not."""
        return f"{self.name}.parquet"

    @property
    def tar_url(self) -> str:
        """Where the tar is, as a person or another program would write it."""
        return str(self.storage.local_path(self.tar) or f"{self.storage.url}/{self.tar}")

    def index(self) -> ShardIndex:
        """Find the tar's samples."""
        return build_index(read_members(self.storage, self.tar))


Source = Callable[[DatasetShard], "pl.DataFrame"]
Step = Callable[[DatasetShard, "pl.DataFrame"], "pl.DataFrame"]
Encoder = Callable[[], Mapping[str, Json]]


class ImageTextPairDataset:
    """Images with captions in tars, and what is known of each, a row per image.

    Example:
        >>> dataset = ImageTextPairDataset.from_webdataset("raw", id_col="key")
        >>> dataset = TimmImageEmbedder("vit_large_patch14_clip_224.openai")(dataset)
        >>> dataset = AestheticClassifier()(dataset)
        >>> dataset.save_metadata()
    """

    def __init__(
        self,
        shards: Sequence[DatasetShard],
        id_col: str,
        source: Source,
        steps: Sequence[Step] = (),
        encoder: Encoder | None = None,
    ) -> None:
        """Make a dataset of parts; :meth:`from_webdataset` finds them."""
        self.shards = tuple(shards)
        self.id_col = id_col
        self._source = source
        self._steps = tuple(steps)
        self._encoder = encoder or (lambda: _stored_encoder(self.shards[0]))

    @classmethod
    def from_webdataset(
        cls,
        path: str,
        id_col: str = "key",
        *,
        storage: Storage | None = None,
        texts: TextSettings = DEFAULT_TEXTS,
    ) -> "ImageTextPairDataset":
        """Open a folder of tars.

        Metadata is the ``NNNNN.parquet`` beside each tar. Where there is none, it is read
        from the tar: the key, the caption, and the fields of each sample's JSON. Every
        shard has all columns, in one type each, by the rule of ``dataset_columns.py``:
        where values disagree, they are texts. JSON that can't be read costs its own
        sample's fields, and a warning names it.

        Args:
            path: The folder: local, or ``s3://…``.
            id_col: The column that holds a sample's key.
            storage: The folder, instead of ``path``'s.
            texts: Which components are the caption and the JSON.

        Raises:
            InputError: There is no tar.
        """
        storage = storage or open_storage(path)
        files = [file.path for file in storage.list_files()]
        tars = [name.removesuffix(".tar") for name in files if name.endswith(".tar")]
        if not tars:
            raise InputError(f"{storage.url}: there is no .tar in this folder")
        alone = {n.removesuffix(".parquet") for n in files if n.endswith(".parquet")}
        if alone - set(tars):
            log.warning("%d tables have no tar beside them", len(alone - set(tars)))
        shards = [DatasetShard(storage, name) for name in tars]
        return cls(
            shards,
            id_col,
            _Stored(id_col, shards, frozenset(alone), texts),
        )

    @property
    def metadata(self) -> "pl.LazyFrame":
        """What is known of every sample, as a Polars LazyFrame.

        Its rows are computed shard by shard each time that it is collected; write them
        with :meth:`save_metadata` and open the folder again to compute them once. A frame
        may be assigned: further columns, or fewer rows. What goes wrong while it is
        collected, Polars raises as an error of its own that quotes ours.
        """
        from polars.io.plugins import register_io_source

        # of the dataset as it is now: the frame may be assigned to this one later
        now = ImageTextPairDataset(
            self.shards, self.id_col, self._source, self._steps, self._encoder
        )
        return register_io_source(now._frames_for_polars, schema=now._schema)

    @metadata.setter
    def metadata(self, frame: "pl.LazyFrame | pl.DataFrame") -> None:
        before = ImageTextPairDataset(self.shards, self.id_col, self._source)
        self._source, self._steps = _Assigned(frame.lazy(), before), ()

    def with_step(
        self, step: Step, encoder: Encoder | None = None
    ) -> "ImageTextPairDataset":
        """Give the same dataset with something more to compute for each shard."""
        return ImageTextPairDataset(
            self.shards,
            self.id_col,
            self._source,
            (*self._steps, step),
            encoder or self._encoder,
        )

    def scored_by(self, classifier: Classifier) -> "ImageTextPairDataset":
        """Give the same dataset with a column of scores, ``<classifier's name>_score``."""
        return self.with_step(_Score(classifier, self.id_col, self._encoder))

    def frames(self) -> Iterator[tuple[DatasetShard, "pl.DataFrame"]]:
        """Compute each shard's metadata, one shard after the other.

        Raises:
            UnknownNameError: There is no column of ids.
            TableError: An id comes twice in a shard, or a table is damaged.
            ShardError: A tar is damaged.
        """
        for shard in self.shards:
            yield shard, self._frame(shard)

    def save_metadata(
        self, path: str | None = None, columns: Sequence[str] | None = None
    ) -> None:
        """Compute the metadata, and write a table for every shard under the shard's name.

        Args:
            path: Folder to write to; by default beside the tars, in place of what is there.
            columns: Which columns; by default all. Ids are always written.

        Raises:
            UnknownNameError: There is no such column.
        """
        for shard, frame in self.frames():
            if columns is not None:
                wanted = [self.id_col, *(n for n in columns if n != self.id_col)]
                _check_columns(frame, wanted)
                frame = frame.select(wanted)
            target = shard if path is None else replace(shard, storage=open_storage(path))
            about = _about(shard) if path is None and columns is None else {}
            if EMBEDDING in frame.columns:
                about = about | {"encoder": dict(self._encoder())}
            _write(target, frame, about)

    def to_webdataset(
        self,
        path: str,
        filter_column: str,
        samples_per_shard: int = 10_000,
        max_shards: int = 5,
        old_id_col: str | None = None,
    ) -> None:
        """Compute the metadata, and write the samples that pass as new shards.

        Every component is copied byte for byte, under its whole extension. Samples get
        new ids: the shard's number, then the sample's in it. A shard's tar is written
        first, then its ``.idx``, then its table.

        Args:
            path: Folder to write to, without tars in it.
            filter_column: Column of booleans; samples with True are written.
            samples_per_shard: Of every shard but the last.
            max_shards: Digits of the shard's number in names and ids.
            old_id_col: Column of the new tables to keep the old ids in.

        Raises:
            InputError: The folder has tars, a number is out of range, or more shards are
                needed than ``max_shards`` digits can number.
            UnknownNameError: There is no such column.
            StaleError: A tar was replaced since its samples were found.
            TableError: ``filter_column`` holds no booleans, or no id is a sample's key.
        """
        if samples_per_shard < 1 or max_shards < 1:
            raise InputError(
                f"samples_per_shard={samples_per_shard} and max_shards={max_shards} must "
                "be at least 1"
            )
        output = open_storage(path)
        if output.list_files(suffix=".tar"):
            raise InputError(f"{output.url} has tars already; name an empty folder")
        writer = _ShardWriter(
            output, self.id_col, samples_per_shard, max_shards, old_id_col, self._encoder
        )
        for shard, frame in self.frames():
            _check_columns(frame, [filter_column])
            _check_booleans(shard, frame[filter_column])
            writer.add(shard, frame, filter_column)
        writer.flush()

    def _frame(self, shard: DatasetShard) -> "pl.DataFrame":
        frame = self._source(shard)
        for step in self._steps:
            frame = step(shard, frame)
        return frame

    def _schema(self) -> "pl.Schema":
        """Find the columns of all shards, from the first one: all have the same."""
        return self._frame(self.shards[0]).schema

    def _frames_for_polars(
        self,
        with_columns: list[str] | None,
        predicate: "pl.Expr | None",
        n_rows: int | None,
        _batch_size: int | None,
    ) -> "Iterator[pl.DataFrame]":
        import polars as pl

        empty = pl.DataFrame(schema=self._schema())
        for _, frame in self.frames():
            frame = pl.concat([empty, frame], how="diagonal_relaxed")
            frame = frame.filter(predicate) if predicate is not None else frame
            frame = frame.head(n_rows) if n_rows is not None else frame
            yield frame.select(with_columns) if with_columns is not None else frame
            n_rows = n_rows - len(frame) if n_rows is not None else None
            if n_rows == 0:
                return


def join_by_id(
    frame: "pl.DataFrame", id_col: str, keys: Sequence[str], column: "pl.Series", what: str
) -> "pl.DataFrame":
    """Put a column that was computed by key beside a shard's rows; null where it has none.

    Rows that no sample belongs to stay: img2dataset lists downloads that failed.
    """
    import polars as pl

    found = pl.DataFrame({id_col: pl.Series(keys, dtype=pl.String), column.name: column})
    ids = frame[id_col].cast(pl.String)
    without = int((~ids.is_in(found[id_col].to_list())).sum())
    if without == len(frame) > 0 < len(keys):
        raise _no_keys(what, frame[id_col], keys)
    if without:
        log.warning("%s: %d of %d rows have no sample", what, without, len(frame))
    rows = pl.DataFrame({id_col: ids}).join(
        found, on=id_col, how="left", maintain_order="left", validate="1:1"
    )
    return frame.with_columns(rows[column.name])


@dataclass(frozen=True)
class _Stored:
    """Metadata as it lies beside the tars, or in them, in one type for each column."""

    id_col: str
    shards: Sequence[DatasetShard]
    tables: frozenset[str]
    """Shards that have a table."""
    texts: TextSettings
    _read: dict[str, "pl.DataFrame"] = field(default_factory=dict, compare=False)
    """What was read from tars, which takes a walk through all of one."""

    def __call__(self, shard: DatasetShard) -> "pl.DataFrame":
        import polars as pl

        frame = self._typed(shard)
        _check_columns(frame, [self.id_col])
        if frame[self.id_col].is_duplicated().any():
            again = frame.filter(frame[self.id_col].is_duplicated())[self.id_col][0]
            raise TableError(f"{shard.tar_url}: id {again!r} comes twice in its metadata")
        lacking = [n for n in self._types if n not in frame.columns]
        nulls = [pl.lit(None, self._types[n] or pl.String()).alias(n) for n in lacking]
        return frame.with_columns(nulls).select(list(self._types))

    @cached_property
    def _types(self) -> "dict[str, pl.DataType | None]":
        """Settle the type of each column, by all values of all shards."""
        shapes: dict[str, Shape] = {}
        for shard in self.shards:
            for name, shape in self._shapes(shard).items():
                shapes[name] = shapes.get(name, Shape()) | shape
        return {name: shape.type() for name, shape in shapes.items()}

    def _shapes(self, shard: DatasetShard) -> dict[str, Shape]:
        if shard.name in self.tables:
            frame = _to_polars(_read_table(shard))
            return {column.name: shape_of_series(column) for column in frame}
        columns = _columns(shard, self._in_tar(shard), warn=True)
        return {name: shape_of(values) for name, values in columns.items()}

    def _typed(self, shard: DatasetShard) -> "pl.DataFrame":
        import polars as pl

        if shard.name in self.tables:
            frame = _to_polars(_read_table(shard))
            return frame.select(cast_series(c, self._types[c.name]) for c in frame)
        columns = _columns(shard, self._in_tar(shard), warn=False)
        return pl.DataFrame(
            {n: series_of(n, v, self._types[n]) for n, v in columns.items()}
        )

    def _in_tar(self, shard: DatasetShard) -> "pl.DataFrame":
        if shard.name not in self._read:
            self._read[shard.name] = _texts_in_tar(shard, self.texts)
        return self._read[shard.name]


class _Assigned:
    """Metadata that the user made of all shards' at once."""

    def __init__(self, frame: "pl.LazyFrame", before: ImageTextPairDataset) -> None:
        self.frame = frame
        self.before = before
        self._shards: dict[str, pl.DataFrame] = {}

    def __call__(self, shard: DatasetShard) -> "pl.DataFrame":
        if not self._shards:
            self._shards = self._by_shard()
        return self._shards[shard.name]

    def _by_shard(self) -> "dict[str, pl.DataFrame]":
        import polars as pl

        id_col = self.before.id_col
        frame = self.frame.collect()
        _check_columns(frame, [id_col])
        ids = {shard.name: rows.select(id_col) for shard, rows in self.before.frames()}
        if pl.concat(ids.values()).is_duplicated().any():
            raise TableError(
                f"shards of {self.before.shards[0].storage.url} share ids, so metadata of "
                "all of them can't be told apart; assign it folder by folder"
            )
        return {name: frame.join(rows, on=id_col, how="semi") for name, rows in ids.items()}


@dataclass(frozen=True)
class _Score:
    """Adds a classifier's scores."""

    classifier: Classifier
    id_col: str
    encoder: Encoder

    def __call__(self, shard: DatasetShard, frame: "pl.DataFrame") -> "pl.DataFrame":
        import polars as pl

        _check_columns(frame, [EMBEDDING])
        name = f"{self.classifier.name}_score"
        vectors, valid = _matrix(frame[EMBEDDING], shard.tar_url)
        table = pa.table(
            {
                "key": frame[self.id_col].cast(pl.String).to_arrow().cast(pa.string()),
                EMBEDDING: embedding_column(vectors, valid),
            }
        )
        scores = score_embeddings(table, {name: self.classifier}, encoder=self.encoder())
        return frame.with_columns(
            pl.Series(name, scores[name].to_numpy(), nan_to_null=True)
        )


@dataclass(frozen=True)
class _Kept:
    """A sample to write: where its components lie."""

    shard: DatasetShard
    tar: StoredFile
    components: list[dict[str, Any]]


class _ShardWriter:
    """Collects samples until a shard is full, and writes it."""

    def __init__(
        self,
        output: Storage,
        id_col: str,
        samples_per_shard: int,
        max_shards: int,
        old_id_col: str | None,
        encoder: Encoder,
    ) -> None:
        self.output = output
        self.id_col = id_col
        self.samples_per_shard = samples_per_shard
        self.max_shards = max_shards
        self.old_id_col = old_id_col
        self.encoder = encoder
        self.number = 0
        """Of the next shard."""
        self.samples: list[_Kept] = []
        self.rows: list[pl.DataFrame] = []

    def add(self, shard: DatasetShard, frame: "pl.DataFrame", filter_column: str) -> None:
        """Take the samples of a shard's rows that pass; write what becomes full."""
        import polars as pl

        index = shard.index()
        places = {key: place for place, key in enumerate(index.keys)}
        ids = frame[self.id_col].cast(pl.String)
        if len(ids) and places and not ids.is_in(list(places)).any():
            raise _no_keys(shard.tar_url, frame[self.id_col], index.keys)
        frame = frame.filter(filter_column)
        there = frame[self.id_col].cast(pl.String).is_in(list(places))
        if not there.all():
            log.warning(
                "%s: %d rows that pass have no sample in the tar",
                shard.tar_url,
                int((~there).sum()),
            )
        frame = frame.filter(there)
        starts = index.sample_starts
        while len(frame):
            room = self.samples_per_shard - len(self.samples)
            taken, frame = frame.head(room), frame.slice(room)
            for key in taken[self.id_col].cast(pl.String):
                place = places[key]
                rows = index.components.slice(
                    int(starts[place]), int(starts[place + 1] - starts[place])
                )
                self.samples.append(_Kept(shard, index.file, rows.to_pylist()))
            self.rows.append(taken)
            if len(self.samples) == self.samples_per_shard:
                self.flush()

    def flush(self) -> None:
        """Write what was taken as one shard, if there is anything."""
        import polars as pl

        if not self.samples:
            return
        if self.number >= 10**self.max_shards:
            raise InputError(
                f"max_shards={self.max_shards} digits number {self.number} shards, and "
                "there are more samples; use more digits or larger shards"
            )
        frame = pl.concat(self.rows, how="diagonal_relaxed")
        if self.old_id_col is not None:
            frame = frame.with_columns(frame[self.id_col].alias(self.old_id_col))
        ids = self._ids()
        frame = frame.with_columns(pl.Series(self.id_col, ids))
        shard = DatasetShard(self.output, str(self.number).zfill(self.max_shards))
        self.output.write_parts(shard.tar, self._parts(ids))
        self.output.write(f"{shard.name}.idx", format_index(shard.index()))
        about = {"encoder": dict(self.encoder())} if EMBEDDING in frame.columns else {}
        _write(shard, frame, about)
        self.number += 1
        self.samples, self.rows = [], []

    def _ids(self) -> list[str]:
        digits = ceil(log10(self.samples_per_shard))
        first = self.number * 10**digits
        width = digits + self.max_shards
        return [str(first + sample).zfill(width) for sample in range(len(self.samples))]

    def _parts(self, ids: Sequence[str]) -> Iterator[Part]:
        for new_id, sample in zip(ids, self.samples, strict=True):
            for part in sample.components:
                start, size = part["data_start"], part["size"]
                yield _tar_header(f"{new_id}.{part['extension']}", size)
                yield ByteRange(
                    sample.shard.storage, sample.tar.path, start, start + size, sample.tar
                )
                yield bytes(padded(size) - size)
        yield END_OF_ARCHIVE


def _tar_header(name: str, size: int) -> bytes:
    header = tarfile.TarInfo(name)  # no time, no owner: the same samples, the same tar
    header.size = size
    return header.tobuf(tarfile.PAX_FORMAT)


def _texts_in_tar(shard: DatasetShard, texts: TextSettings) -> "pl.DataFrame":
    """Read ``key``, ``caption`` and ``json`` of every sample, texts as they are."""
    import polars as pl

    kinds = (texts.caption_extensions, texts.metadata_extensions)
    wanted = [extension for extensions in kinds for extension in extensions]
    rows = []
    for sample in read_samples(shard.storage, shard.tar, shard.index(), wanted):
        found = (find_component(sample.components, extensions) for extensions in kinds)
        data = [sample.contents.get(part.extension) if part else None for part in found]
        rows.append((sample.key, *(None if d is None else decode_text(d) for d in data)))
    names = ("key", "caption", "json")
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")


def _columns(
    shard: DatasetShard, texts: "pl.DataFrame", *, warn: bool
) -> dict[str, list[Any]]:
    """Give keys, captions and the members of every sample's JSON, column by column."""
    columns: dict[str, list[Any]] = {"key": texts["key"].to_list()}
    if texts["caption"].null_count() < len(texts):
        columns["caption"] = texts["caption"].to_list()
    captions = texts["caption"].to_list()
    unread: list[str] = []
    for row, text in enumerate(texts["json"]):
        try:
            members = {} if text is None else json_columns(text)
        except ValueError as error:
            unread.append(f"{texts['key'][row]}: {error}")
            continue
        for name, value in members.items():
            if name == "key" or (name == "caption" and captions[row] is not None):
                continue  # the sample's own
            if name not in columns:
                columns[name] = [None] * len(texts)
            columns[name][row] = value
    if unread and warn:
        log.warning(
            "%s: the JSON of %d of %d samples can't be read, first that of %s",
            shard.tar_url,
            len(unread),
            len(texts),
            unread[0],
        )
    return columns


def _read_table(shard: DatasetShard) -> pa.Table:
    data = io.BytesIO(shard.storage.read(shard.table))
    try:
        return pq.read_table(data, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise TableError(
            f"{shard.storage.url}/{shard.table}: no Parquet file that can be read ({error})"
        ) from error


def _about(shard: DatasetShard) -> dict[str, Any]:
    """Read what a shard's table says of itself; empty if there is none."""
    if not shard.storage.exists(shard.table):
        return {}
    return table_about(_read_table(shard))


def _stored_encoder(shard: DatasetShard) -> Mapping[str, Json]:
    encoder = _about(shard).get("encoder")
    return encoder if isinstance(encoder, dict) else {}


def _to_polars(table: pa.Table) -> "pl.DataFrame":
    import polars as pl

    vectors = table.schema.field(EMBEDDING) if EMBEDDING in table.column_names else None
    if vectors is not None and pa.types.is_fixed_size_binary(vectors.type):
        return to_polars(table)
    return pl.DataFrame(table.replace_schema_metadata())


def _matrix(column: "pl.Series", where: str) -> tuple[np.ndarray, np.ndarray]:
    """Give ``(N, dim)`` float32 of a column of lists, and which rows have one.

    Raises:
        TableError: They are no lists of numbers, or of unlike lengths.
    """
    import polars as pl

    kind, width = column.dtype, {0}
    is_lists = isinstance(kind, pl.List | pl.Array) and kind.inner.is_numeric()
    known = column.drop_nulls()
    if len(known) and not is_lists:
        raise TableError(f"{where}: {column.name} holds {kind}; expected lists of numbers")
    if len(known):
        lists = known.cast(pl.List(pl.Float32))
        if lists.list.eval(pl.element().is_null().any()).list.first().any():
            raise TableError(
                f"{where}: a vector in {column.name} has a null among its numbers"
            )
        width = set(lists.list.len().to_list())
    if len(width) > 1:
        raise TableError(
            f"{where}: the vectors in {column.name} have {min(width)} to {max(width)} "
            "numbers; all must have as many, of one encoder"
        )
    vectors = np.zeros((len(column), *width), np.float32)
    valid = column.is_not_null().to_numpy()
    if len(known):
        vectors[valid] = lists.explode().to_numpy().reshape(len(known), -1)
    return vectors, valid


def _check_booleans(shard: DatasetShard, column: "pl.Series") -> None:
    import polars as pl

    if column.dtype != pl.Boolean:
        raise TableError(
            f"{shard.tar_url}: filter_column {column.name!r} holds {column.dtype}; "
            "expected booleans: compute a column of them, such as "
            f"metadata.with_columns(good=pl.col({column.name!r}) > 0.5)"
        )


def _no_keys(where: str, ids: "pl.Series", keys: Sequence[str]) -> TableError:
    """Say that a column of ids is another one than keys, such as numbers."""
    return TableError(
        f"{where}: no row of column {ids.name!r} ({ids.dtype}) is of a sample: the first "
        f"holds {ids[0]!r}, the first key of the tar is {keys[0]!r}; choose the column "
        "with the keys as id_col, as text with all its zeros"
    )


def _write(shard: DatasetShard, frame: "pl.DataFrame", about: Mapping[str, Any]) -> None:
    """Write a shard's table; one of a filtered shard stays one."""
    import polars as pl

    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    narrow = [f.with_type(_narrowed(f.type)) for f in table.schema]
    table = table.cast(pa.schema(narrow))
    if about.get("table") == FILTERED.name:
        if EMBEDDING in frame.columns:
            vectors = embedding_column(*_matrix(frame[EMBEDDING], shard.tar_url))
            at = table.schema.get_field_index(EMBEDDING)
            table = table.set_column(at, EMBEDDING, vectors)
        others = {n: v for n, v in about.items() if n not in ("table", "version")}
        write_table(shard.storage, shard.table, FILTERED, table, **others)
        return
    with shard.storage.open_writer(shard.table) as file:
        pq.write_table(with_about(table, **about) if about else table, file)


def _narrowed(kind: pa.DataType) -> pa.DataType:
    """Give the type that everyone's readers know: offsets of 32 bits."""
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_large_list(kind):
        return pa.list_(_narrowed(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([f.with_type(_narrowed(f.type)) for f in kind])
    return kind


def _check_columns(frame: "pl.DataFrame", names: Sequence[str]) -> None:
    for name in names:
        if name not in frame.columns:
            raise UnknownNameError.among("column", name, frame.columns)
