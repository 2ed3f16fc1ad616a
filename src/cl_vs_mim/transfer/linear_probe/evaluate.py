"""Linear probes of every depth (Figure 10): features computed once, all probes trained at once, protocol ``cached``.

For the embedding and each block (depth 0 … L), for CLS and the mean of the patch tokens, and for each kind of label:
features standardised (BatchNorm without affine), then one linear layer. The images pass the encoder once and are not
augmented, so numbers lie below those of protocols that augment. Each learning rate of the study is tried and the best
one on training images held back is kept; those images are not added again afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from cl_vs_mim.config.analysis import Probe as ProbeSettings
from cl_vs_mim.core.tables import with_columns
from cl_vs_mim.encoder.model import Encoder
from cl_vs_mim.transfer.job import Job
from cl_vs_mim.transfer.linear_probe.features import FeatureOptions, split_features
from cl_vs_mim.transfer.linear_probe.fitting import Standardisation, fit_probes, predict, standardisation
from cl_vs_mim.transfer.linear_probe.probes import save_probes
from cl_vs_mim.transfer.linear_probe.selection import (
    Choice,
    accuracy_rows,
    choose_rates,
    hold_back,
    selection_table,
    set_names,
    without_cls,
)
from cl_vs_mim.transfer.splits import Split, constant_guess, read_splits

PROTOCOL = "cached"


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


def evaluate(job: Job, trained: None) -> dict[str, pd.DataFrame]:
    """The tables of one encoder, and its probes in a file for :func:`.probes.load_probe`.

    Options of the job: ``probes``, where the chosen probes go (``….safetensors``); ``memory_gib``, what the features
    of a split may take of the memory; ``cache``, a folder for features that take more than that, or None.

    Returns:
        ``linear_probe_selection``: a row per depth, pooling, kind of label and learning rate, the accuracy on the
        images held back. ``linear_probe``: a row per validation image, depth, pooling and kind of label, 1 where the
        probe is right; for categories also the held-out objects, none of which was trained on. ``chance`` is the
        accuracy of always naming the commonest training label.
    """
    settings: ProbeSettings = job.settings
    train, evaluated = read_splits(job.data, list(settings.labels))
    options = FeatureOptions(
        crop_fraction=job.study.analysis.crop_fraction,
        batch_size=job.study.analysis.batch_size,
        workers=job.threads,
        final_norm=settings.final_norm,
        precision=settings.precision,
        memory=job.options.get("memory_gib", 4.0) * 2**30,
        folder=job.options.get("cache"),
    )
    encoder = job.encoder.to(job.device)
    result = probe_encoder(
        encoder, train, evaluated, settings, options, content=job.data_hash, label=job.evaluated.name
    )
    if job.options.get("probes") is not None:
        classes = {kind: labels.classes for kind, labels in train.labels.items()}
        origin = {"model": job.evaluated.model, "seed": job.evaluated.seed, "data_hash": job.data_hash}
        origin |= {"protocol": PROTOCOL}
        save_probes(job.options["probes"], result.choices, classes, result.standard, settings, origin)
    rows = with_columns(result.rows, {"metric": "top1", "protocol": PROTOCOL})
    tables = {"linear_probe_selection": result.selection, "linear_probe": rows}
    if not encoder.has_cls:  # what was fitted on no features tells nothing
        tables = {name: without_cls(table) for name, table in tables.items()}
    return tables
