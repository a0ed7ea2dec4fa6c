"""How fast are a decoder's batches, beside webdataset's pipeline and DALLE2-pytorch's?

Shards of 1000 JPEGs of 256 x 256 pixels with captions and embeddings (``.npy``).

* Decoded, by 2 workers, in batches of 32 float images with embeddings. One floor decodes
  the same bytes from memory by as many workers and makes nothing of the pixels; the other
  makes floats of them too, each image by itself. ``uint8`` leaves that to the training
  step.
* As stored, in this process: image, caption and embedding of every sample. One floor
  reads the tars from one end to the other; the other also makes each image's bytes an
  object of its own, and does nothing about its vector or its batch.

An epoch is measured. What comes before the first one, finding all samples, is measured
beside it; webdataset has nothing of the kind.

    python benchmarks/image_embedding_loader.py [--shards 10] [--quick]
        [--peer-python PYTHON]

The peer's Python is one where ``pip install dalle2-pytorch "setuptools<81"`` was done;
its loader shows every sample once per worker, so its rate is of distinct samples. Bars:
3 times DALLE2-pytorch, 0.9 times decoding alone; 5 times webdataset as stored, and half
of reading alone. Rates of wall time mean something on a quiet machine only; CPU time per
sample is given beside them.
"""

import argparse
import io
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import webdataset
from paired import Measured, Peer, measure, print_rates, print_ratio, take_turns
from photographs import read_photographs
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from curation.image_decoding import decode_with_pillow
from curation.testing.image_shards import make_tar
from curation.training import create_image_embedding_dataloader
from curation.training.batch_images import as_floats
from curation.training.image_embedding_loader import ImageEmbeddingLoader
from curation.training.indexed_shards import IndexedShards

DIM = 512
WORKERS = 2
BATCH = 32
PER_SHARD = 1000
ROUNDS = 5
CUTTING = "reading, and cutting images out"
DECODING, FLOATS = "decoding alone", "decoding and making floats alone"


def square_jpegs() -> Iterator[bytes]:
    """Cut photographs to 256 x 256 pixels, over and over."""
    stored = []
    for data in read_photographs(None)[:PER_SHARD]:
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        side = min(picture.size)
        box = ((picture.width - side) // 2, (picture.height - side) // 2)
        square = picture.crop((*box, box[0] + side, box[1] + side)).resize((256, 256))
        buffer = io.BytesIO()
        square.save(buffer, "JPEG", quality=95)
        stored.append(buffer.getvalue())
    return cycle(stored)


def make_shards(folder: Path, num_shards: int, per_shard: int) -> list[bytes]:
    """Write tars with ``.npy`` inside, and the vectors as a folder too; give the images."""
    rng = np.random.default_rng(0)
    images = square_jpegs()
    made: list[bytes] = []
    (folder / "tars").mkdir()
    (folder / "emb").mkdir()
    for shard in range(num_shards):
        vectors = rng.standard_normal((per_shard, DIM)).astype(np.float16)
        np.save(folder / "emb" / f"img_emb_{shard:05d}.npy", vectors)
        members = []
        for row, data in enumerate(islice(images, per_shard)):
            key = f"{shard:05d}{row:04d}"
            stored = io.BytesIO()
            np.save(stored, vectors[row])
            members += [(f"{key}.jpg", data), (f"{key}.npy", stored.getvalue())]
            members += [(f"{key}.txt", f"a caption of {key}".encode())]
            made.append(data)
        (folder / "tars" / f"{shard:05d}.tar").write_bytes(make_tar(members))
    return made


def ours(folder: Path, workers: int, **settings: Any) -> ImageEmbeddingLoader:
    """Open our loader."""
    return create_image_embedding_dataloader(
        str(folder / "tars"), workers, BATCH, **settings
    )


def epoch(loader: ImageEmbeddingLoader) -> int:
    """Go through an epoch."""
    return sum(len(batch[0]) for batch in loader)


def opening(folder: Path, count: int) -> int:
    """Find all samples."""
    ours(folder, 0)
    return count


def webdatasets_decoded(folder: Path) -> int:
    """Do the same with webdataset's own pipeline, split by worker."""
    urls = sorted(map(str, (folder / "tars").iterdir()))
    samples = webdataset.WebDataset(urls, shardshuffle=False, empty_check=False)
    pairs = samples.decode("torchrgb").to_tuple("jpg", "npy")
    loader = DataLoader(pairs, batch_size=BATCH, num_workers=WORKERS)
    return sum(len(images) for images, _ in loader)


class DecodeOnly(Dataset[int]):
    """Images in memory, decoded, made floats of or not, and forgotten."""

    def __init__(self, images: list[bytes], scale: bool) -> None:
        self.images = images
        self.floats = np.empty((1, 3, 256, 256), np.float32) if scale else None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> int:
        pixels = decode_with_pillow(self.images[index])
        if self.floats is not None:
            as_floats(pixels[None], self.floats)
        return int(pixels.shape[2] == 3)


def decoded_alone(images: list[bytes], scale: bool) -> int:
    """Decode by as many workers."""
    loader = DataLoader(DecodeOnly(images, scale), batch_size=BATCH, num_workers=WORKERS)
    return sum(int(batch.sum()) for batch in loader)


def webdatasets_stored(folder: Path) -> int:
    """Read an epoch by webdataset, without decoding."""
    urls = sorted(map(str, (folder / "tars").iterdir()))
    samples = webdataset.WebDataset(urls, shardshuffle=False, empty_check=False)
    return sum(1 for sample in samples if sample["jpg"])


def plain_read(folder: Path, count: int) -> int:
    """Read the tars."""
    for path in sorted((folder / "tars").iterdir()):
        with open(path, "rb", buffering=0) as file:
            while file.read(1 << 20):
                pass
    return count


def cut_out(folder: Path, found: IndexedShards) -> int:
    """Read the tars, and cut every image out of the bytes."""
    places, shards = found.places["image"], found.shards_of(np.arange(found.num_samples))
    images = 0
    for number, path in enumerate(sorted((folder / "tars").iterdir())):
        data = path.read_bytes()
        rows = shards == number
        bounds = zip(places.starts[rows].tolist(), places.sizes[rows].tolist(), strict=True)
        images += len([data[start : start + size] for start, size in bounds])
    return images


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="2 shards, 3 rounds")
    parser.add_argument("--peer-python", help="a Python with dalle2-pytorch")
    arguments = parser.parse_args()
    shards, rounds = (2, 3) if arguments.quick else (arguments.shards, ROUNDS)
    peer = Peer(arguments.peer_python) if arguments.peer_python else None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = make_shards(folder, shards, PER_SHARD)
        show_decoded(folder, images, rounds, peer)
        show_stored(folder, len(images), rounds)
    if peer:
        peer.close()


def show_decoded(folder: Path, images: list[bytes], rounds: int, peer: Peer | None) -> None:
    """Compare loops that decode."""
    loaders = {
        "ours": ours(folder, WORKERS),
        "ours, uint8": ours(folder, WORKERS, img_preproc=np.asarray),
        "ours, all samples mixed": ours(folder, WORKERS, shuffle_num=1000),
    }
    loops = _epochs(loaders) | {
        "webdataset": lambda: measure(partial(webdatasets_decoded, folder)),
        DECODING: lambda: measure(partial(decoded_alone, images, False)),
        FLOATS: lambda: measure(partial(decoded_alone, images, True)),
    }
    if peer:
        loops["DALLE2-pytorch"] = lambda: peer.measure(
            "decoder", folder=str(folder), count=len(images), workers=WORKERS
        )
    found = take_turns(loops, rounds)
    print_rates(f"decoded by {WORKERS} workers, batches of {BATCH}", found)
    print_ratio(found, "ours", "webdataset")
    print_ratio(found, "ours", DECODING, 0.9)
    print_ratio(found, "ours, uint8", DECODING, 0.9)
    print_ratio(found, "ours", FLOATS)
    print_ratio(found, "ours, all samples mixed", "ours")
    if peer:
        print_ratio(found, "ours", "DALLE2-pytorch", 3)


def show_stored(folder: Path, count: int, rounds: int) -> None:
    """Compare loops that only read."""
    loaders = {
        "ours": ours(folder, 0, decode=None),
        "ours, with captions": ours(folder, 0, decode=None, extra_keys=["txt"]),
        "ours, all samples mixed": ours(folder, 0, decode=None, shuffle_num=1000),
    }
    loops = _epochs(loaders) | {
        "opening": lambda: measure(partial(opening, folder, count)),
        "webdataset": lambda: measure(partial(webdatasets_stored, folder)),
        "reading alone": lambda: measure(partial(plain_read, folder, count)),
        CUTTING: lambda: measure(partial(cut_out, folder, loaders["ours"].dataset.indexed)),
    }
    found = take_turns(loops, rounds)
    print_rates("as stored, in one process", found)
    print_ratio(found, "ours", "webdataset", 5)
    print_ratio(found, "ours, with captions", "webdataset", 5)
    print_ratio(found, "ours", "reading alone", 0.5)
    print_ratio(found, CUTTING, "reading alone")


def _epochs(loaders: dict[str, ImageEmbeddingLoader]) -> dict[str, Callable[[], Measured]]:
    return {name: partial(measure, partial(epoch, it)) for name, it in loaders.items()}


if __name__ == "__main__":
    main()
