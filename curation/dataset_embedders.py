"""Embedders that are called with a dataset: any timm model, or one of your own.

The names and the two methods to write are those of NeMo Curator's guide. What decodes and
embeds is what the assets use: ``embedders/`` and ``image_loaders/``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from curation.classifiers.base import Classifier
from curation.dataset import DatasetShard, ImageTextPairDataset, join_by_id
from curation.devices import usable_gpus
from curation.embedders.timm import TimmEmbedder
from curation.embedding import embed_samples
from curation.embedding_workers import EmbeddingTools
from curation.errors import InputError, TableError
from curation.fingerprint import Json
from curation.image_loaders import ImageLoader, LoaderSettings
from curation.recipe import ImageSettings
from curation.samples import read_samples
from curation.scoring import check_encoders
from curation.tables import EMBEDDING, embedding_matrix

if TYPE_CHECKING:
    import polars as pl
    import torch


class DatasetEmbedder(ABC):
    """Adds a column of vectors to a dataset, and the scores of classifiers of them."""

    def __init__(self, classifiers: Sequence[Classifier] = ()) -> None:
        self.classifiers = tuple(classifiers)

    def __call__(self, dataset: ImageTextPairDataset) -> ImageTextPairDataset:
        """Give the dataset with ``image_embedding``, to be computed when it is needed.

        Raises:
            InputError: A classifier was made for another encoder.
        """
        id_col = dataset.id_col
        classifiers = {one.name: one for one in self.classifiers}
        check_encoders(classifiers, self.known_encoder())

        def embed(shard: DatasetShard, frame: "pl.DataFrame") -> "pl.DataFrame":
            import polars as pl

            keys, vectors, valid = self.embed_shard(shard, id_col)
            rows = pl.Series(EMBEDDING, np.ascontiguousarray(vectors, np.float32))
            known = pl.DataFrame({EMBEDDING: rows}).select(
                pl.when(pl.Series(valid)).then(EMBEDDING).alias(EMBEDDING)
            )
            return join_by_id(frame, id_col, keys, known[EMBEDDING], shard.tar_url)

        embedded = dataset.with_step(embed, self.encoder)
        for classifier in self.classifiers:
            embedded = embedded.scored_by(classifier)
        return embedded

    @abstractmethod
    def embed_shard(
        self, shard: DatasetShard, id_col: str
    ) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Compute a shard's vectors.

        Returns:
            Keys, ``(n, dim)`` float, and ``(n,)`` bool: whether there is a vector.
        """

    @abstractmethod
    def encoder(self) -> Mapping[str, Json]:
        """Say what makes the vectors, for the classifiers and to be stored with them."""

    def known_encoder(self) -> Mapping[str, Json]:
        """Say as much of that as is known without fetching any weights."""
        return self.encoder()


class ImageEmbedder(DatasetEmbedder):
    """Write an embedder of your own: how a shard is read, and what embeds a batch.

    Args:
        model_name: What classifiers and tables are told of the model.
        classifiers: Score the vectors too.
    """

    def __init__(self, model_name: str, classifiers: Sequence[Classifier] = ()) -> None:
        super().__init__(classifiers)
        self.model_name = model_name

    @abstractmethod
    def load_dataset_shard(
        self, tar_path: str
    ) -> Iterable[tuple[Any, list[dict[str, Any]]]]:
        """Read a shard in batches.

        Args:
            tar_path: Local path or URL.

        Yields:
            What your model takes, and for each image of it a dict with its id, under the
            name of the dataset's ``id_col``.
        """

    @abstractmethod
    def load_embedding_model(self, device: str) -> Callable[[Any], "torch.Tensor"]:
        """Load the model, once.

        Args:
            device: ``cuda`` where there is a GPU, else ``cpu``.

        Returns:
            A function of a batch to ``(n, dim)`` vectors, of unit length if classifiers
            are to score them.
        """

    def encoder(self) -> Mapping[str, Json]:
        return {"kind": "custom", "model": self.model_name}

    def embed_shard(
        self, shard: DatasetShard, id_col: str
    ) -> tuple[list[str], np.ndarray, np.ndarray]:
        import torch

        keys: list[str] = []
        blocks: list[np.ndarray] = []
        for batch, about in self.load_dataset_shard(shard.tar_url):
            with torch.inference_mode():
                vectors = torch.as_tensor(self._model(batch)).float().cpu().numpy()
            if len(vectors) != len(about):
                raise TableError(
                    f"{shard.tar_url}: {self.model_name} gave {len(vectors)} vectors for "
                    f"{len(about)} images"
                )
            blocks.append(vectors)
            keys += [str(sample[id_col]) for sample in about]
        found = np.concatenate(blocks) if blocks else np.zeros((0, 1), np.float32)
        return keys, found, np.ones(len(found), bool)

    @cached_property
    def _model(self) -> Callable[[Any], "torch.Tensor"]:
        return self.load_embedding_model(_device("auto"))


class TimmImageEmbedder(DatasetEmbedder):
    """Any timm model. Images that can't be decoded get no vector.

    Args:
        model_name: As timm's, with a pretrained tag or without.
        pretrained: True for published weights; or a ``.safetensors`` or ``.pth`` file, or
            ``package:<name>``. (Random weights, NeMo's False, give vectors of nothing.)
        batch_size: Images computed at once; by default what suits the device.
        num_threads_per_worker: Threads of DALI, on a GPU.
        normalize_embeddings: Give vectors of length 1.
        classifiers: Score the vectors too.
        autocast: Compute in half precision where the device does; else in float32.
        device: ``auto`` for a GPU if there is one.
        images: Which component is the image, and which are refused.

    Raises:
        InputError: ``pretrained`` is False; there is no such model, device or weights,
            or they are of another model.
    """

    def __init__(
        self,
        model_name: str,
        pretrained: bool | str = True,
        batch_size: int | None = None,
        num_threads_per_worker: int = 4,
        *,
        normalize_embeddings: bool = True,
        classifiers: Sequence[Classifier] = (),
        autocast: bool = True,
        device: str = "auto",
        images: ImageSettings | None = None,
    ) -> None:
        super().__init__(classifiers)
        if pretrained is False:
            raise InputError(
                f"{model_name}: random weights give vectors of nothing; use "
                "pretrained=True, or name a file of weights"
            )
        if classifiers and not normalize_embeddings:
            raise InputError("classifiers score vectors of length 1: normalize_embeddings")
        self.images = images or ImageSettings()
        self.num_threads = num_threads_per_worker
        self.batch_size = batch_size
        kind = TimmEmbedder if normalize_embeddings else _AsComputed
        precision: Literal["auto", "fp32"] = "auto" if autocast else "fp32"
        weights = "hub" if pretrained is True else pretrained
        self.embedder = kind(model_name, weights, precision, _device(device))
        self.embedder.check()

    def encoder(self) -> Mapping[str, Json]:
        return self.embedder.encoder()

    def known_encoder(self) -> Mapping[str, Json]:
        return self.embedder.known_encoder()

    def embed_shard(
        self, shard: DatasetShard, id_col: str
    ) -> tuple[list[str], np.ndarray, np.ndarray]:
        samples = read_samples(
            shard.storage, shard.tar, shard.index(), self.images.extensions
        )
        table = embed_samples(samples, self._loader, self.embedder, self.images)
        vectors, valid = embedding_matrix(table[EMBEDDING])
        return table["key"].to_pylist(), vectors, valid

    @cached_property
    def _loader(self) -> ImageLoader:
        settings = LoaderSettings(
            batch_size=self.batch_size,
            max_pixels=self.images.max_pixels,
            rotate_by_exif=self.images.rotate_by_exif,
            on_corruption=self.images.on_corruption,
        )
        tools = EmbeddingTools(self.embedder, settings=settings)
        loader, _ = tools.make(self.embedder.device, self.num_threads)
        return loader


class _AsComputed(TimmEmbedder):
    """Vectors of the length that the model gives them."""

    @property
    def _described(self) -> dict[str, Json]:
        return super()._described | {"normalized": False}

    def _unit(self, pixels: "torch.Tensor") -> "torch.Tensor":
        import torch

        with torch.inference_mode():
            return self.embed_pixels(pixels).half()


def _device(name: str) -> str:
    import torch

    if name != "auto":
        if name != "cpu":
            usable_gpus("cuda")
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"
