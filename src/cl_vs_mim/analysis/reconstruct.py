"""Decoders of masked image modelling: what they paint, and their frequencies (Figure 11).

``<tables>/reconstruction/<run>.parquet`` has a row per pixel of a few images (original, masked, reconstructed), and
``<tables>/decoder_fourier/<run>.parquet`` one per image, depth (L, L + 0.5 … L + the decoder's blocks) and
frequency (units of pi). The latter has rows for MAE alone: SimMIM's one-layer head has no depth.

Whether the paper fed masked or full images to the Fourier analysis is UNKNOWN; we feed full ones, since a quarter of
the patches makes no grid. Depth L of the decoder is its embedding; the encoder's last output has depth L as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cl_vs_mim.analysis.layouts import RECONSTRUCTED
from cl_vs_mim.analysis.tables import values_table
from cl_vs_mim.config import ObjectiveConfig
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.progress import progress
from cl_vs_mim.core.randomness import generator_for
from cl_vs_mim.core.tables import with_columns, write_table
from cl_vs_mim.data.identity import data_hash
from cl_vs_mim.data.images import IMAGENET_MEAN, IMAGENET_STD, decode_many, normalise
from cl_vs_mim.encoder.checkpoints import load_decoder
from cl_vs_mim.encoder.decoders import Decoder
from cl_vs_mim.encoder.model import Encoder
from cl_vs_mim.evaluated import Evaluation, analysis_images, batches
from cl_vs_mim.metrics.fourier import frequencies, relative_log_amplitudes

_GREY = 0.5  # of hidden patches in the picture of the masked image

# ------------------------------------------------------------------------------------------------
# Pictures
# ------------------------------------------------------------------------------------------------


def draw_masks(objective: ObjectiveConfig, count: int, grid: int, seed: int) -> Tensor:
    """(count, grid, grid) masks as the method draws them in training; the i-th does not depend on ``count``."""
    generators = (generator_for(seed, "reconstruction", number) for number in range(count))
    return torch.cat([objective.draw_mask(grid, generator) for generator in generators])


@torch.inference_mode()
def paint(encoder: Encoder, decoder: Decoder, pixels: Tensor, masks: Tensor) -> dict[str, Tensor]:
    """Original, masked and reconstructed images, each (M, 3, S, S) uint8.

    Visible patches of the reconstruction are those of the original: no decoder is trained to paint them.
    """
    device = next(encoder.parameters()).device
    images, masks = normalise(pixels.to(device)), masks.to(device)
    patch = encoder.spec.patch_size
    hidden = masks.repeat_interleave(patch, 1).repeat_interleave(patch, 2).unsqueeze(1)  # (M, 1, S, S)
    painted = decoder.reconstruct(encoder, images, masks)
    mean = torch.tensor(IMAGENET_MEAN, device=device).view(1, 3, 1, 1)
    deviation = torch.tensor(IMAGENET_STD, device=device).view(1, 3, 1, 1)
    painted = (painted * deviation + mean).clamp(0, 1)
    original = pixels.to(device).float() / 255
    pictures = {
        "original": original,
        "masked": torch.lerp(original, torch.full_like(original, _GREY), hidden),
        "reconstructed": torch.lerp(original, painted, hidden),
    }
    return {kind: (picture * 255).round().to(torch.uint8).cpu() for kind, picture in pictures.items()}


def pictures_table(pictures: dict[str, Tensor], names: list[str], shares: list[float]) -> pd.DataFrame:
    """Rows of image, kind and pixel; ``shares`` are the hidden parts of the images."""
    frames = []
    for kind, images in pictures.items():
        image, row, col = (axis.ravel() for axis in np.indices((len(images), *images.shape[2:]), dtype=np.int32))
        red, green, blue = images.transpose(0, 1).flatten(1).numpy()
        frame = {"image": np.array(names)[image], "kind": kind, "row": row, "col": col}
        frames.append(
            pd.DataFrame(frame | {"red": red, "green": green, "blue": blue}).assign(
                masked_share=np.array(shares)[image]
            )
        )
    return pd.concat(frames, ignore_index=True)


# ------------------------------------------------------------------------------------------------
# Frequencies
# ------------------------------------------------------------------------------------------------


@torch.inference_mode()
def decoder_amplitudes(
    encoder: Encoder, decoder: Decoder, images: Iterable[Tensor], count: int, label: str
) -> np.ndarray:
    """Relative log amplitude of the decoder's tokens, nothing being hidden of the images.

    Args:
        encoder: in evaluation mode.
        decoder: trained with it.
        images: (B, 3, S, S) uint8 each.
        count: number of all images M, for the progress bar.
        label: the encoder's name, for the progress bar and messages.

    Returns:
        (M, 2 * depth + 1, F): of its embedding, then after every half block.

    Raises:
        UserError: a value is not finite.
    """
    device = next(encoder.parameters()).device
    values = []
    with progress(total=count, desc=f"decode {label}", unit="image") as bar:
        for batch in images:
            states = decoder.states(encoder(normalise(batch.to(device))))
            values.append(torch.stack([relative_log_amplitudes(state) for state in states], dim=1).double().cpu())
            bar.update(len(batch))
    result = torch.cat(values).numpy()
    if not np.isfinite(result).all():
        raise UserError(f"{label}: the decoder's tokens are not finite; it has diverged, train it again")
    return result


# ------------------------------------------------------------------------------------------------
# All of it
# ------------------------------------------------------------------------------------------------


def reconstruct(
    evaluation: Evaluation, run: str, file: Path | None, data: Path, tables: Path, *, threads: int, config_hash: str
) -> None:
    """Paint a few images, measure the frequencies of the decoder, and write the tables.

    Args:
        evaluation: the encoder, opened.
        run: file stem of the tables.
        file: the file of the encoder and its decoder.
        data: folder of the images.
        tables: folder of all tables, one folder a kind in it.
        threads: number of threads that decode images.
        config_hash: goes into the head of every row.

    Raises:
        UserError: the encoder's method paints nothing, the data set is not whole, or the decoder has diverged.
    """
    study, encoder, evaluated = evaluation.study, evaluation.encoder, evaluation.evaluated
    objective = getattr(study.models.get(evaluated.model), "objective", None)
    if file is None or objective is None or not objective.paints:
        raise UserError(f"{evaluated.model} has no decoder that paints; give a model of method mae or simmim")
    decoder = load_decoder(file, "native", encoder).to(evaluation.device)
    settings, sample = study.analysis.reconstruction, study.analysis
    index, positions, names = analysis_images(study, data)
    size, crop, grid = encoder.spec.image_size, sample.crop_fraction, encoder.spec.grid

    chosen = list(settings.images)
    masks = draw_masks(objective, len(chosen), grid, settings.seed)
    pixels = decode_many(index, positions[chosen], size, crop_fraction=crop)
    pictures = paint(encoder, decoder, pixels, masks)
    shares = masks.mean((1, 2)).tolist()
    painted = pictures_table(pictures, [names[place] for place in chosen], shares)

    amplitudes, depths = np.empty((0, 1, len(frequencies(grid)))), np.array([float(encoder.spec.depth)])
    if objective.deep_decoder:
        images = batches(index, positions, size, crop, sample.batch_size, workers=threads)
        amplitudes = decoder_amplitudes(encoder, decoder, images, len(names), evaluated.name)
        depths = encoder.spec.depth + np.arange(amplitudes.shape[1]) / 2
    spectrum = values_table(amplitudes, names, depths, "frequency", frequencies(grid).numpy())

    shape = {"grid": grid, "patch_size": encoder.spec.patch_size}
    head = evaluation.head(config_hash=config_hash, data_hash=data_hash(data)) | shape
    for kind, table in zip(RECONSTRUCTED, (painted, spectrum), strict=True):
        write_table(tables / kind / f"{run}.parquet", with_columns(table, head))
