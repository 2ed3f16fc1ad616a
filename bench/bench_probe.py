"""What do the probes of every depth, pooling and learning rate cost, against one probe of one depth?

    python bench/bench_probe.py --output bench_probe.csv

Both in turn in one run, on the same images: features (decoding and one pass of the encoder, which a single probe needs
as well), then the fit. The fit is :func:`cl_vs_mim.transfer.fitting.fit_probes` both times, at the settings of the
study; the single probe is that of the last block, mean of the patch tokens, middle learning rate. Only labels of kind
``class``, so that the two differ in nothing else. A loop over single probes is the estimate ``one x their number``.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from cl_vs_mim.config import load_study
from cl_vs_mim.core.errors import run_cli
from cl_vs_mim.core.files import sha256_json
from cl_vs_mim.core.tables import row_head, with_head, write_table
from cl_vs_mim.data.images import ImageFolderIndex, index_image_folder
from cl_vs_mim.encoder.model import build_encoder
from cl_vs_mim.transfer.linear_probe.features import FeatureOptions, split_features
from cl_vs_mim.transfer.linear_probe.fitting import fit_probes, standardisation
from cl_vs_mim.transfer.linear_probe.selection import set_names


def write_images(folder: Path, count: int, classes: int, size: int) -> ImageFolderIndex:
    """Random JPEG files, the classes in turn, each of a mean colour of its own: something to learn."""
    generator = np.random.default_rng(0)
    colours = generator.integers(0, 256, (classes, 1, 1, 3))
    for number in range(count):
        path = folder / f"{number % classes:04}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = (colours[number % classes] + generator.integers(0, 256, (size // 8, size // 8, 3))) // 2
        Image.fromarray(coarse.astype(np.uint8)).resize((size, size)).save(path)
    return index_image_folder(folder)


def main(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    study = load_study(arguments.config)
    settings = study.analysis.probe
    architecture = study.architectures[arguments.architecture]
    device = torch.device(arguments.device)
    encoder = build_encoder(architecture.spec(), seed=0).eval().to(device)
    depth = encoder.spec.depth
    options = FeatureOptions(batch_size=study.analysis.batch_size, workers=arguments.threads)
    rate = settings.learning_rates[len(settings.learning_rates) // 2]
    single = settings.model_copy(update={"learning_rates": [rate]})
    seconds: dict[str, list[float]] = {"features": [], "one": [], "all": []}

    with tempfile.TemporaryDirectory() as folder:
        index = write_images(Path(folder), arguments.images, arguments.classes, encoder.spec.image_size)
        targets = {"class": torch.from_numpy(index.labels)}
        positions = torch.arange(len(index))

        def fit(features: Tensor, settings, sets: list[str]) -> None:
            standard = standardisation(features, positions.to(features.device))
            counts = {"class": len(index.classes)}
            fit_probes(features, positions, targets, counts, settings, standard, sets=sets, device=device)
            _wait(device)

        for _ in range(arguments.repeats):
            start = time.perf_counter()
            features = split_features(encoder, index, options, "random", "features").to(device).flatten(1, 2)
            _wait(device)
            seconds["features"].append(time.perf_counter() - start)
            start = time.perf_counter()
            fit(features[:, -1:].contiguous(), single, set_names(depth)[-1:])
            seconds["one"].append(time.perf_counter() - start)
            start = time.perf_counter()
            fit(features, settings, set_names(depth))
            seconds["all"].append(time.perf_counter() - start)

    median = {name: statistics.median(values) for name, values in seconds.items()}
    probes = features.shape[1] * len(settings.learning_rates)
    rows = [
        {
            "probes": number,
            "features_s": median["features"],
            "fit_s": median[name],
            "fit_of_one": median[name] / median["one"],
            "total_of_one": (median["features"] + median[name]) / (median["features"] + median["one"]),
            "loop_of_one": (median["features"] + number * median["one"]) / (median["features"] + median["one"]),
        }
        for number, name in ((1, "one"), (probes, "all"))
    ]
    table = pd.DataFrame(rows).assign(images=len(index), classes=len(index.classes), width=encoder.spec.width)
    table = table.assign(rates=[1, len(settings.learning_rates)], epochs=settings.epochs, threads=arguments.threads)
    print(table.to_string(index=False, float_format="{:.2f}".format))
    if arguments.output:
        parts = {"probe": settings.digest(), "architecture": architecture.digest()}
        head = row_head(study="bench", config_hash=sha256_json(parts), data_hash="random", device=device)
        write_table(arguments.output, with_head(table, head))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("config/quick.yaml"), help="whose encoder and settings")
    parser.add_argument("--architecture", default="vit")
    parser.add_argument("--images", type=int, default=8976, help="as many as the quick study trains on")
    parser.add_argument("--classes", type=int, default=187)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, help="CSV of the rows, with the machine and the versions")
    return parser


if __name__ == "__main__":
    run_cli(main, _parser())
