"""t-SNE of the tokens of a few images (Figure E.2), and how purely images and classes separate in it.

``<tables>/embedding/<run>.parquet`` has a row per token, block and perplexity with its two coordinates, and
``<tables>/embedding_purity/<run>.parquet`` for each image the share of the nearest neighbours of its tokens, among all
tokens embedded, that are of the same image or class. The images are listed by name in both.

scikit-learn's TSNE with the settings of the authors' notebook (perplexity 20, automatic learning rate, random start),
here with a seed. The depth of the published figure is UNKNOWN; the purity is our statistic (claim C18).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cl_vs_mim.analysis.layouts import EMBEDDED
from cl_vs_mim.config.analysis import Embedding
from cl_vs_mim.core.blocks import block_index
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.progress import progress
from cl_vs_mim.core.tables import with_columns, write_table
from cl_vs_mim.data.identity import data_hash
from cl_vs_mim.data.images import decode_many, index_image_folder, normalise
from cl_vs_mim.data.labels import NO_CATEGORY, ImageLabels, image_labels
from cl_vs_mim.evaluated import SPLIT, Evaluation

# ------------------------------------------------------------------------------------------------
# Which images
# ------------------------------------------------------------------------------------------------


def choose_images(labels: ImageLabels, settings: Embedding) -> np.ndarray:
    """Positions of ``classes`` x ``images_per_class`` images, class by class; drawn by the seed.

    The collection of what belongs to no category is no class: its images are as unlike as those of several classes, so
    that it would lower the purity of every encoder in which it happens to be drawn.

    Raises:
        UserError: too few classes have that many images.
    """
    generator = np.random.default_rng(settings.seed)
    counts = np.bincount(labels.numbers, minlength=len(labels.classes))
    is_class = np.array([labels.kind == "class" or name != NO_CATEGORY for name in labels.classes])
    enough = np.flatnonzero((counts >= settings.images_per_class) & is_class)
    if len(enough) < settings.classes:
        raise UserError(
            f"analysis.embedding asks for {settings.images_per_class} images of {settings.classes} {labels.kind} "
            f"labels, but only {len(enough)} labels have that many; lower images_per_class"
        )
    chosen = generator.choice(enough, settings.classes, replace=False)
    images = [
        generator.choice(np.flatnonzero(labels.numbers == label), settings.images_per_class, replace=False)
        for label in chosen
    ]
    return np.concatenate(images)


# ------------------------------------------------------------------------------------------------
# The embedding
# ------------------------------------------------------------------------------------------------


def embed(tokens: np.ndarray, perplexity: float, settings: Embedding) -> np.ndarray:
    """(T, D) -> (T, 2) float32; the same for equal arguments.

    Raises:
        UserError: there are too few tokens for the perplexity.
    """
    from sklearn.manifold import TSNE  # here: only this command waits for it

    if len(tokens) <= 3 * perplexity:
        raise UserError(
            f"analysis.embedding.perplexity {perplexity:g} is too large for {len(tokens)} tokens; take more images"
        )
    tsne = TSNE(
        n_components=2,
        perplexity=perplexity,
        learning_rate="auto",
        init="random",
        max_iter=settings.iterations,
        random_state=settings.seed,
        n_jobs=1,
    )
    return tsne.fit_transform(np.ascontiguousarray(tokens, dtype=np.float32))


def purity(points: np.ndarray, groups: np.ndarray, neighbours: int) -> np.ndarray:
    """(T,) share of the nearest neighbours of each point, itself left out, that are of its group.

    Args:
        points: (T, 2).
        groups: (T,) number of each point's group.
        neighbours: how many of the nearest ones are looked at.

    Raises:
        ValueError: there are not that many other points.
    """
    from sklearn.neighbors import NearestNeighbors

    if len(points) <= neighbours:
        raise ValueError(f"{neighbours} neighbours asked for among {len(points)} points")
    found = NearestNeighbors(n_neighbors=neighbours).fit(points).kneighbors(return_distance=False)  # without itself
    return (groups[found] == groups[:, None]).mean(axis=1)


# ------------------------------------------------------------------------------------------------
# All of it
# ------------------------------------------------------------------------------------------------


def embed_tokens(evaluation: Evaluation, run: str, data: Path, tables: Path, *, config_hash: str) -> None:
    """Embed the tokens of a few images of one encoder and write its tables.

    Args:
        evaluation: the encoder, opened.
        run: file stem of the tables.
        data: folder of the images.
        tables: folder of all tables, one folder a kind in it.
        config_hash: goes into the head of every row.

    Raises:
        UserError: the data set is not whole, or has too few images.
    """
    study, encoder, device = evaluation.study, evaluation.encoder, evaluation.device
    settings = study.analysis.embedding
    index = index_image_folder(data / SPLIT)
    labels = image_labels(data, SPLIT, index, settings.labels)
    positions = choose_images(labels, settings)
    names = [f"{SPLIT}/{index.paths[position]}" for position in positions]
    groups = labels.numbers[positions]
    pixels = decode_many(index, positions, encoder.spec.image_size, crop_fraction=study.analysis.crop_fraction)
    with torch.inference_mode():
        states = encoder.states(normalise(pixels.to(device)))

    count, grid = encoder.spec.grid**2, encoder.spec.grid
    image = np.repeat(np.arange(len(names)), count)  # (T,)
    row, col = np.divmod(np.tile(np.arange(count, dtype=np.int32), len(names)), grid)
    perplexities = [settings.perplexity, *settings.alternatives]
    embeddings, purities = [], []
    label = f"t-SNE {evaluation.evaluated.name}"
    with progress(total=len(settings.blocks) * len(perplexities), desc=label, unit="embedding") as bar:
        for block in settings.blocks:
            depth = 1 + block_index(block, encoder.spec.depth)
            tokens = states[2 * depth][:, 1:].flatten(0, 1).float().cpu().numpy()  # (T, D)
            for perplexity in perplexities:
                points = embed(tokens, perplexity, settings)
                place = {"depth": np.int32(depth), "perplexity": perplexity}
                common = {"image": np.array(names)[image], "group": np.array(labels.classes)[groups[image]]}
                coordinates = {"row": row, "col": col, "x": points[:, 0], "y": points[:, 1]}
                embeddings.append(pd.DataFrame(common | place | coordinates))
                for metric, members in (("image_purity", image), ("class_purity", groups[image])):
                    shares = purity(points, members, settings.neighbours).reshape(len(names), count).mean(axis=1)
                    rows = {"metric": metric, "image": names, "group": np.array(labels.classes)[groups]}
                    purities.append(pd.DataFrame(rows | place | {"neighbours": settings.neighbours, "value": shares}))
                bar.update(1)

    shape = {"grid": grid, "patch_size": encoder.spec.patch_size}
    head = evaluation.head(config_hash=config_hash, data_hash=data_hash(data)) | shape
    for kind, frames in zip(EMBEDDED, (embeddings, purities), strict=True):
        table = pd.concat(frames, ignore_index=True)
        write_table(tables / kind / f"{run}.parquet", with_columns(table, head))
