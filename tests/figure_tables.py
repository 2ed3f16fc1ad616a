"""Small tables with the columns of ``cl_vs_mim.analysis.extract``, for tests of what is drawn from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cl_vs_mim.config import Study
from cl_vs_mim.core.tables import HEAD, read_table, write_table
from cl_vs_mim.figures.figure import FIGURES, Drawing
from cl_vs_mim.figures.sources import Reference
from cl_vs_mim.figures.tables import of_group, read_frames

REFERENCE = Path(__file__).resolve().parent.parent / "results" / "reference" / "reference_values.csv"

ENCODERS = {
    "untrained_vit": ("untrained ViT-64/8", "untrained", "control", "vit"),
    "moco_v3": ("MoCo v3", "moco_v3", "cl", "vit"),
    "simmim": ("SimMIM", "simmim", "mim", "beit"),
    "untrained_beit": ("untrained BEiT-like-64/8", "untrained", "control", "beit"),
}
OTHERS = {"mae": ("MAE", "mae", "mim", "vit")}  # beyond the pair
GRID, PATCH, IMAGES, BLOCKS, HEADS = 6, 8, 12, 3, 2


def _constants(model: str, seed: int, study: str) -> dict[str, object]:
    label, method, paradigm, architecture = (ENCODERS | OTHERS)[model]
    head = dict.fromkeys(HEAD, "x") | {"study": study, "data_hash": "d" * 64, "git_commit": "abc"}
    series = {"model": model, "label": label, "method": method, "paradigm": paradigm, "architecture": architecture}
    return head | series | {"seed": seed, "grid": GRID, "patch_size": PATCH}


def attention_table(model: str, seed: int = 0, study: str = "smoke") -> pd.DataFrame:
    """Random values of the three metrics for every image, block and head."""
    generator = np.random.default_rng([list(ENCODERS).index(model), seed])
    rows = [
        {"metric": metric, "image": f"val/a/{image}.jpg", "depth": depth, "head": head}
        | {"value": scale * generator.uniform(0.5, 1)}
        for metric, scale in (("attention_distance", 25), ("nmi", 0.3), ("attention_entropy", 1))
        for image in range(IMAGES)
        for depth in range(1, BLOCKS + 1)
        for head in range(HEADS)
    ]
    return pd.DataFrame(rows).assign(**_constants(model, seed, study))


def maps_table(model: str, seed: int = 0, study: str = "smoke") -> pd.DataFrame:
    """Random maps of two queries, all heads and their mean, of one block."""
    generator = np.random.default_rng([list(ENCODERS).index(model), seed])
    rows = []
    for query, (row, col) in enumerate([(2, 3), (0, 0)]):
        maps = generator.dirichlet(np.ones(GRID**2), size=HEADS).reshape(HEADS, GRID, GRID)
        for head, values in {-1: maps.mean(axis=0), **dict(enumerate(maps))}.items():
            rows += [
                {"head": head, "query": query, "query_row": row, "query_col": col}
                | {"key_row": y, "key_col": x, "value": values[y, x]}
                for y in range(GRID)
                for x in range(GRID)
            ]
    return pd.DataFrame(rows).assign(image="val/a/0.jpg", depth=2, **_constants(model, seed, study))


def image_table(study: str = "smoke") -> pd.DataFrame:
    """A random image of the encoder's size."""
    side = GRID * PATCH
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3))
    row, col = np.mgrid[:side, :side].reshape(2, -1)
    red, green, blue = pixels[row, col].T
    columns = {"row": row, "col": col, "red": red, "green": green, "blue": blue}
    return pd.DataFrame(columns).assign(image="val/a/0.jpg", study=study, data_hash="d" * 64)


def write_all(folder: Path, frames: dict[str, pd.DataFrame]) -> list[Path]:
    """Write the frames as Parquet with categories, as the extraction does; returns the paths in order."""
    paths = []
    for name, frame in frames.items():
        text = frame.select_dtypes(["object", "string"]).columns
        write_table(folder / f"{name}.parquet", frame.astype(dict.fromkeys(text, "category")))
        paths.append(folder / f"{name}.parquet")
    return paths


def draw(name: str, study: Study, **given: pd.DataFrame | Sequence[Path]) -> Drawing:
    """Draw a figure from frames or files, by the names of what it reads, with the checks that the command makes."""
    figure = FIGURES[name]
    frames = {}
    for key, source in figure.reads.items():
        if isinstance(source, Reference):
            frames[key] = read_table(REFERENCE)
        elif isinstance(given.get(key), pd.DataFrame):
            frames[key] = of_group(given[key], study, source.of) if source.measured else given[key]
        else:
            frames |= read_frames({key: source}, study, {key: given.get(key, ())})
    return figure.drawn(frames, study)


# ------------------------------------------------------------------------------------------------
# Tables of tokens
# ------------------------------------------------------------------------------------------------

METRICS = (
    "head_similarity",
    "depth_similarity_attention",
    "depth_similarity_blocks",
    "token_similarity_heads",
    "token_similarity_blocks",
)
STATES = [half / 2 for half in range(2 * BLOCKS + 1)]


def _frame(rows: list[dict], model: str, seed: int, study: str, low: float, high: float) -> pd.DataFrame:
    generator = np.random.default_rng([list(ENCODERS | OTHERS).index(model), seed, len(rows)])
    return pd.DataFrame(rows).assign(value=generator.uniform(low, high, len(rows)), **_constants(model, seed, study))


def diversity_table(model: str, seed: int = 0, study: str = "smoke") -> pd.DataFrame:
    """Random similarities; per head only where the metric is."""
    rows = [
        {"metric": metric, "image": f"val/a/{image}.jpg", "depth": depth, "head": head}
        for metric in METRICS
        for head in (range(HEADS) if metric == "token_similarity_heads" else [-1])
        for image in range(IMAGES)
        for depth in range(1, BLOCKS + 1)
    ]
    return _frame(rows, model, seed, study, -0.1, 1.0)


def fourier_table(model: str, seed: int = 0, study: str = "smoke") -> pd.DataFrame:
    """Random amplitudes at the three frequencies of a grid of 6."""
    rows = [
        {"image": f"val/a/{image}.jpg", "depth": depth, "frequency": frequency}
        for image in range(IMAGES)
        for depth in STATES
        for frequency in (0.0, 1 / 3, 2 / 3)
    ]
    frame = _frame(rows, model, seed, study, -3, -1)
    return frame.assign(value=frame["value"].where(frame["frequency"] > 0, 0.0))


def token_spectrum_table(model: str, seed: int = 0, study: str = "smoke") -> pd.DataFrame:
    """Random spectra of 9 ranks."""
    rows = [
        {"image": f"val/a/{image}.jpg", "depth": float(depth), "rank": rank}
        for image in range(IMAGES)
        for depth in range(BLOCKS + 1)
        for rank in range(1, 10)
    ]
    frame = _frame(rows, model, seed, study, -0.5, 0.5)
    return frame.assign(value=frame["value"] - frame["rank"])


def image_spectrum_table(model: str, seed: int = 0, study: str = "smoke") -> pd.DataFrame:
    """Random spectra of 6 ranks with an interval."""
    rows = [{"depth": float(depth), "rank": rank} for depth in range(BLOCKS + 1) for rank in range(1, 7)]
    frame = _frame(rows, model, seed, study, -3, 0)
    return frame.assign(low=frame["value"] - 0.2, high=frame["value"] + 0.1, images=IMAGES)


def movement_table(model: str, seed: int = 0, study: str = "smoke") -> pd.DataFrame:
    """Random numbers of both metrics."""
    rows = [
        {"metric": metric, "image": f"val/a/{image}.jpg", "depth": depth}
        for metric, depths in (("displacement_variation", range(1, BLOCKS + 1)), ("centroid_separation", STATES))
        for image in range(IMAGES)
        for depth in depths
    ]
    return _frame(rows, model, seed, study, 0.1, 2)


def movement_tokens_table(model: str, seed: int = 0, study: str = "smoke") -> pd.DataFrame:
    """Random coordinates of 4 tokens of two images in all panels."""
    places = {"early": (0.0, 0.5), "late": (BLOCKS - 1.0, BLOCKS - 0.5), "network": (0.0, float(BLOCKS))}
    rows = [
        {"image": f"val/a/{image}.jpg", "count": count, "place": place, "when": when, "row": token // 2}
        | {"col": token % 2, "depth_before": before, "depth_after": after}
        for count in (1, 2)
        for image in range(count)
        for place, (before, after) in places.items()
        for when in ("before", "after")
        for token in range(4)
    ]
    frame = _frame(rows, model, seed, study, -1, 1)
    return frame.rename(columns={"value": "x"}).assign(y=lambda table: table["x"] ** 2, z=0.0)


# ------------------------------------------------------------------------------------------------
# Tables of robustness, embeddings and decoders
# ------------------------------------------------------------------------------------------------

CATEGORIES = ("bird", "flower", "tool")


def cue_table(model: str, seed: int = 0, study: str = "smoke") -> pd.DataFrame:
    """Random decisions on 30 images, a fifth of them filled with a material."""
    rows = [
        {
            "image": f"{CATEGORIES[image % 3]}/{image}.jpg",
            "shape_group": CATEGORIES[image % 3],
            "texture_group": "" if image % 5 == 0 else CATEGORIES[(image + 1) % 3],
            "material": "brick" if image % 5 == 0 else "",
        }
        for image in range(30)
    ]
    frame = _frame(rows, model, seed, study, 0, 1)
    decision = np.select([frame["value"] < 0.4, frame["value"] < 0.7], ["shape", "texture"], "other")
    decision = np.where((decision == "texture") & (frame["texture_group"] == ""), "other", decision)
    constants = {"decision": decision, "predicted": "x", "depth": 3, "pooling": "mean", "labels": "category"}
    return frame.drop(columns="value").assign(**constants)


def noise_table(model: str, seed: int = 0, study: str = "smoke") -> pd.DataFrame:
    """Random answers of 12 images, clean and under three bands of two widths."""
    bands = [(0.0, 0.0)] + [(width, frequency) for width in (0.2, 0.4) for frequency in (0.2, 0.5, 0.8)]
    rows = [
        {"image": f"val/a/{image}.jpg", "width": width, "frequency": frequency}
        for width, frequency in bands
        for image in range(IMAGES)
    ]
    frame = _frame(rows, model, seed, study, 0, 1)
    return frame.assign(value=(frame["value"] > 0.4).astype(int), rms=0.1, depth=3, pooling="mean", labels="category")


def embedding_table(model: str, seed: int = 0, study: str = "smoke") -> pd.DataFrame:
    """Random coordinates of 4 tokens of 6 images in two blocks, at two perplexities."""
    rows = [
        {"image": f"val/{image}.jpg", "group": CATEGORIES[image // 2], "depth": depth, "perplexity": perplexity}
        | {"row": token // 2, "col": token % 2}
        for depth in (1, 2)
        for perplexity in (5.0, 40.0)
        for image in range(6)
        for token in range(4)
    ]
    frame = _frame(rows, model, seed, study, -9, 9)
    return frame.rename(columns={"value": "x"}).assign(y=lambda table: -table["x"])


def purity_table(model: str, seed: int = 0, study: str = "smoke") -> pd.DataFrame:
    """Random purities of the same images."""
    rows = [
        {"metric": metric, "image": f"val/{image}.jpg", "depth": depth, "perplexity": perplexity, "neighbours": 10}
        for metric in ("image_purity", "class_purity")
        for depth in (1, 2)
        for perplexity in (5.0, 40.0)
        for image in range(6)
    ]
    return _frame(rows, model, seed, study, 0, 1)


def reconstruction_table(model: str, seed: int = 0, study: str = "smoke") -> pd.DataFrame:
    """Random pixels of two images of 4 px in the three kinds."""
    rows = [
        {"image": f"val/{image}.jpg", "kind": kind, "row": pixel // 4, "col": pixel % 4}
        for image in range(2)
        for kind in ("original", "masked", "reconstructed")
        for pixel in range(16)
    ]
    frame = _frame(rows, model, seed, study, 0, 255)
    colours = {"red": frame["value"].astype(int), "green": 7, "blue": 9}
    return frame.drop(columns="value").assign(**colours, masked_share=0.75)


def decoder_table(model: str, seed: int = 0, study: str = "smoke") -> pd.DataFrame:
    """Random amplitudes in a decoder of one block behind the encoder."""
    rows = [
        {"image": f"val/a/{image}.jpg", "depth": BLOCKS + half / 2, "frequency": frequency}
        for image in range(IMAGES)
        for half in range(3)
        for frequency in (0.0, 1 / 3, 2 / 3)
    ]
    return _frame(rows, model, seed, study, -4, -3)
