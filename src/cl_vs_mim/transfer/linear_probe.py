"""Linear probes of every depth (Figure 10): features cached once, all probes trained at once, protocol ``cached``.

    python -m cl_vs_mim.transfer.linear_probe --config config/demo.yaml --model moco_v3 --seed 0 \\
        --encoder results/demo/encoders/moco_v3_seed0.safetensors --data results/demo/data/objects \\
        --output linear_probe.parquet --selection linear_probe_selection.parquet --probes probes.safetensors

For the embedding and each block (depth 0 … L), for CLS and the mean of the patch tokens, and for each kind of label:
features standardised (BatchNorm without affine), then one linear layer. The images pass the encoder once and are not
augmented, so numbers lie below those of protocols that augment. Each learning rate of the study is tried and the best
one on training images held back is kept; those images are not added again afterwards.

``--output``     a row per validation image, depth, pooling and kind of label, 1 where the probe is right; for
                 categories also the held-out objects, none of which was trained on. ``chance`` is the accuracy of
                 always naming the commonest training label.
``--selection``  a row per depth, pooling, kind of label and learning rate: accuracy on the images held back.
``--probes``     the chosen probes, for :func:`load_probe`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from cl_vs_mim.config import load_study
from cl_vs_mim.config.analysis import Probe as ProbeSettings
from cl_vs_mim.core.errors import UserError, run_cli
from cl_vs_mim.core.files import atomic_path
from cl_vs_mim.core.tables import with_columns, write_table
from cl_vs_mim.data.images import ImageFolderIndex, index_image_folder
from cl_vs_mim.data.labels import ImageLabels, image_labels
from cl_vs_mim.encoder.model import Encoder
from cl_vs_mim.evaluated import (
    SPLIT,
    add_subject_arguments,
    choose_device,
    data_hash,
    find_encoder,
    open_encoder,
    table_head,
)
from cl_vs_mim.transfer.features import POOLINGS, FeatureOptions, split_features
from cl_vs_mim.transfer.fitting import Standardisation, fit_probes, predict, standardisation
from cl_vs_mim.transfer.selection import (
    Choice,
    accuracy_rows,
    choose_rates,
    constant_guess,
    hold_back,
    selection_table,
    set_names,
)

PROTOCOL = "cached"
_TRAIN, _HELDOUT = "train", "heldout"
_HEADER, _FORMAT = "cl_vs_mim_probes", 1  # one entry: safetensors writes several in random order

# ------------------------------------------------------------------------------------------------
# Probes in a file
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Probe:
    """One chosen probe: features of its depth and pooling in, a logit for each class out."""

    classes: tuple[str, ...]
    learning_rate: float
    final_norm: bool  # whether the encoder's last LayerNorm comes before the pooling
    mean: Tensor  # (D,)
    scale: Tensor  # (D,)
    weight: Tensor  # (K, D)
    bias: Tensor  # (K,)

    def __call__(self, features: Tensor) -> Tensor:
        """(B, D), as :func:`cl_vs_mim.transfer.features.pooled` gives them -> (B, K), on the same device."""
        mean, scale, weight, bias = (
            part.to(features.device) for part in (self.mean, self.scale, self.weight, self.bias)
        )
        return torch.nn.functional.linear((features.float() - mean) * scale, weight, bias)


def save_probes(
    path: Path,
    choices: Mapping[str, Choice],
    classes: Mapping[str, tuple[str, ...]],
    standard: Standardisation,
    settings: ProbeSettings,
    metadata: Mapping[str, Any],
) -> None:
    """Write the chosen probes of all depths, poolings and kinds of label atomically; equal arguments, equal bytes."""
    split = (-1, len(POOLINGS))  # S = (L+1) x poolings
    tensors = {name: part.cpu().unflatten(0, split) for name, part in standard._asdict().items()}  # (L+1, 2, D)
    rates = np.array(settings.learning_rates)
    header: dict[str, Any] = {"format": _FORMAT, "poolings": POOLINGS, "final_norm": settings.final_norm}
    header |= {"metadata": dict(metadata), "labels": {}}
    for kind, choice in choices.items():
        tensors[f"{kind}.weight"] = choice.maps.weight.squeeze(1).unflatten(0, split)  # (L+1, 2, K, D)
        tensors[f"{kind}.bias"] = choice.maps.bias.squeeze(1).unflatten(0, split)
        chosen = rates[choice.rate].reshape(split).tolist()
        header["labels"][kind] = {"classes": classes[kind], "learning_rates": chosen}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(tensors, metadata={_HEADER: json.dumps(header, sort_keys=True)}))


def load_probe(path: Path, labels: str, depth: int, pooling: str) -> Probe:
    """One probe of a file of :func:`save_probes`.

    Args:
        path: ``….safetensors``.
        labels: ``class`` or ``category``.
        depth: 0 (embedding) … L.
        pooling: ``cls`` or ``mean``.

    Raises:
        UserError: the file is missing, damaged or of something else, or holds no such probe.
    """
    try:
        with safe_open(path, framework="pt") as file:
            stated = (file.metadata() or {}).get(_HEADER)
            if stated is None:
                raise UserError(f"{path} holds no probes")
            header = json.loads(stated)
            if header["format"] != _FORMAT:
                raise UserError(f"{path} has format {header['format']}; this version reads format {_FORMAT}")
            if labels not in header["labels"]:
                raise UserError(f"{path} has probes of {', '.join(header['labels'])}, none of {labels!r}")
            depths = file.get_slice("mean").get_shape()[0]
            if not 0 <= depth < depths or pooling not in header["poolings"]:
                known = f"depths 0 … {depths - 1}, poolings {', '.join(header['poolings'])}"
                raise UserError(f"{path} has no probe of depth {depth}, {pooling!r}; it has {known}")
            place = header["poolings"].index(pooling)
            names = ("mean", "scale", f"{labels}.weight", f"{labels}.bias")
            parts = [file.get_slice(name)[depth, place] for name in names]
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a readable file of probes ({error}); fit them again") from error
    kind = header["labels"][labels]
    rate = kind["learning_rates"][depth][place]
    return Probe(tuple(kind["classes"]), rate, header["final_norm"], *parts)


# ------------------------------------------------------------------------------------------------
# One encoder
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Split:
    """The images of a split and their labels, by kind."""

    name: str
    index: ImageFolderIndex
    labels: dict[str, ImageLabels]


def read_splits(data: Path, kinds: list[str]) -> tuple[Split, list[Split]]:
    """The training images, then those to be evaluated on; held-out objects, where there are any, have a category only.

    Raises:
        UserError: a split or a label is missing.
    """

    def read(name: str, kinds: list[str], known: Mapping[str, ImageLabels]) -> Split:
        index = index_image_folder(data / name)
        classes = {kind: known[kind].classes if kind in known else None for kind in kinds}
        return Split(name, index, {kind: image_labels(data, name, index, kind, classes[kind]) for kind in kinds})

    train = read(_TRAIN, kinds, {})
    evaluated = [read(SPLIT, kinds, train.labels)]
    if "category" in kinds and (data / _HELDOUT).is_dir():
        evaluated.append(read(_HELDOUT, ["category"], train.labels))
    return train, evaluated


@dataclass(frozen=True)
class Result:
    """All that probing one encoder gives."""

    rows: pd.DataFrame
    selection: pd.DataFrame
    choices: dict[str, Choice]
    standard: Standardisation


def probe_encoder(
    encoder: Encoder,
    train: Split,
    evaluated: list[Split],
    settings: ProbeSettings,
    options: FeatureOptions,
    *,
    content: str,
    label: str,
) -> Result:
    """Features of every split, all probes, the choice of their learning rates, and who is right about which image.

    Raises:
        UserError: a feature or a loss is not finite, or the features fit nowhere.
    """
    device = next(encoder.parameters()).device

    def features_of(split: Split) -> Tensor:  # (M, S, D)
        features = split_features(encoder, split.index, options, content, f"features {label}, {split.name}")
        in_memory = features.nbytes <= options.memory
        return (features.to(device) if in_memory else features).flatten(1, 2)

    fitted, held = hold_back(train.index.labels, settings)
    features = features_of(train)
    standard = standardisation(features, fitted.to(features.device))
    targets = {kind: torch.from_numpy(labels.numbers) for kind, labels in train.labels.items()}
    counts = {kind: len(labels.classes) for kind, labels in train.labels.items()}
    names, desc = set_names(encoder.spec.depth), f"probes {label}"
    fits = fit_probes(features, fitted, targets, counts, settings, standard, sets=names, device=device, desc=desc)
    choices = {}
    for kind, maps in fits.items():
        predicted = predict(features, held, maps, standard, device)
        choices[kind] = choose_rates(maps, predicted, targets[kind][held], settings.learning_rates)
    del features

    rows = []
    for split in evaluated:
        features = features_of(split)
        everything = torch.arange(len(split.index))
        images = [f"{split.name}/{path}" for path in split.index.paths]
        for kind, labels in split.labels.items():
            predicted = predict(features, everything, choices[kind].maps, standard, device).squeeze(-1)  # (M, S)
            correct = predicted.numpy() == labels.numbers[:, None]
            part = accuracy_rows(correct, images, split.name, kind, choices[kind], settings.learning_rates)
            rows.append(part.assign(chance=constant_guess(train.labels[kind], labels)))
    table = pd.concat(rows, ignore_index=True)
    table = table.astype(dict.fromkeys(("labels", "split", "image"), "category"))
    return Result(table, selection_table(choices, settings.learning_rates), choices, standard)


# ------------------------------------------------------------------------------------------------
# Command line
# ------------------------------------------------------------------------------------------------


def main(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    device = choose_device(arguments.device)
    study = load_study(arguments.config)
    settings = study.analysis.probe
    subject = find_encoder(study, arguments.model, arguments.seed)
    encoder = open_encoder(subject, study.architectures[subject.architecture], arguments.encoder).to(device)
    content = data_hash(arguments.data)
    train, evaluated = read_splits(arguments.data, list(settings.labels))
    options = FeatureOptions(
        crop_fraction=study.analysis.crop_fraction,
        batch_size=study.analysis.batch_size,
        workers=arguments.threads,
        final_norm=settings.final_norm,
        precision=settings.precision,
        memory=arguments.memory_gib * 2**30,
        folder=arguments.cache,
    )
    label = f"{subject.model} seed {subject.seed}"
    result = probe_encoder(encoder, train, evaluated, settings, options, content=content, label=label)

    head = table_head(study, subject, content, device, {"probe": settings})
    classes = {kind: labels.classes for kind, labels in train.labels.items()}
    origin = {"model": subject.model, "seed": subject.seed, "data_hash": content, "protocol": PROTOCOL}
    save_probes(arguments.probes, result.choices, classes, result.standard, settings, origin)
    write_table(arguments.selection, with_columns(result.selection, head))
    write_table(arguments.output, with_columns(result.rows, head | {"metric": "top1", "protocol": PROTOCOL}))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Fit linear probes on every depth of one encoder; write tidy tables.")
    add_subject_arguments(parser)
    parser.add_argument("--output", type=Path, required=True, help="table of right and wrong predictions")
    parser.add_argument("--selection", type=Path, required=True, help="table of the learning rates tried")
    parser.add_argument("--probes", type=Path, required=True, help="….safetensors of the chosen probes")
    parser.add_argument("--memory-gib", type=float, default=4.0, help="what the features of a split may take of it")
    parser.add_argument("--cache", type=Path, help="folder for features that take more than that")
    return parser


if __name__ == "__main__":
    run_cli(main, _parser())
