"""The plain way to everything that one extraction pass measures: keep all maps and states, loop in NumPy.

Written from the definitions alone, in float64, one image, block and head at a time: the yardstick of
``bench_extract.py`` and, in the tests, the second opinion on every streamed value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cl_vs_mim.data.images import normalise
from cl_vs_mim.encoder.model import Encoder

_FLOOR = 1e-14  # of a singular value, relative to the largest

# ------------------------------------------------------------------------------------------------
# Store
# ------------------------------------------------------------------------------------------------


class Stored(NamedTuple):
    """All that an encoder does to M images, float32. CLS first."""

    maps: np.ndarray  # (M, L, H, 1+N, 1+N)
    head_outputs: np.ndarray  # (M, L, H, 1+N, d)
    states: np.ndarray  # (M, 2L+1, 1+N, D)


@torch.inference_mode()
def store(encoder: Encoder, images: Iterable[Tensor], count: int) -> Stored:
    """Run the encoder over batches (B, 3, S, S) uint8 of ``count`` images in all."""
    spec, device = encoder.spec, next(encoder.parameters()).device
    tokens = 1 + spec.grid**2
    maps = np.empty((count, spec.depth, spec.heads, tokens, tokens), dtype=np.float32)
    head_outputs = np.empty((count, spec.depth, spec.heads, tokens, spec.width // spec.heads), dtype=np.float32)
    states = np.empty((count, 2 * spec.depth + 1, tokens, spec.width), dtype=np.float32)
    done = 0
    for batch in images:
        here = slice(done, done + len(batch))
        embedding = encoder.embed(normalise(batch.to(device)))
        states[here, 0] = embedding.cpu().numpy()
        for block, trace in enumerate(encoder.trace(embedding)):
            maps[here, block] = trace.attention.cpu().numpy()
            head_outputs[here, block] = trace.head_outputs.cpu().numpy()
            states[here, 2 * block + 1] = trace.after_attention.cpu().numpy()
            states[here, 2 * block + 2] = trace.after_mlp.cpu().numpy()
        done += len(batch)
    return Stored(maps, head_outputs, states)


# ------------------------------------------------------------------------------------------------
# Reduce
# ------------------------------------------------------------------------------------------------


def reduce(stored: Stored, patch_size: int) -> dict[str, np.ndarray]:
    """Values by metric, shaped like ``result()`` of the metric of that name: (M, S) or (M, S, K)."""
    images = [_of_image(*parts, patch_size) for parts in zip(*stored, strict=True)]
    return {name: np.stack([values[name] for values in images]) for name in images[0]}


def differences(values: Mapping[str, np.ndarray], streamed: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Largest difference of each metric from the plain way's, relative to 1 + the size of the value."""
    if set(values) != set(streamed):
        raise ValueError(f"the two ways measure different things: {sorted(set(values) ^ set(streamed))}")
    return {name: float((abs(values[name] - streamed[name]) / (1 + abs(values[name]))).max()) for name in values}


def _of_image(maps: np.ndarray, head_outputs: np.ndarray, states: np.ndarray, patch_size: int) -> dict[str, np.ndarray]:
    maps, head_outputs = maps[..., 1:, 1:].astype(np.float64), head_outputs[..., 1:, :].astype(np.float64)
    states = states[:, 1:].astype(np.float64)  # (2L+1, N, D)
    blocks, heads = maps.shape[:2]
    whole = states[::2]  # the embedding and what blocks give out
    distances = _distances(maps.shape[-1], patch_size)
    of_maps = np.array([[_map_values(maps[b, h], distances) for h in range(heads)] for b in range(blocks)])
    values = {
        "attention_distance": of_maps[..., 0],
        "nmi": of_maps[..., 1],
        "attention_entropy": of_maps[..., 2],
        "query_similarity": of_maps[..., 3],
        "depth_similarity_attention": [_same_token(states[2 * b], states[2 * b + 1]) for b in range(blocks)],
        "depth_similarity_blocks": [_same_token(states[2 * b], states[2 * b + 2]) for b in range(blocks)],
        "token_similarity_heads": [[_tokens_alike(head_outputs[b, h]) for h in range(heads)] for b in range(blocks)],
        "token_similarity_blocks": [_tokens_alike(tokens) for tokens in whole[1:]],
        "displacement_variation": [_displacement(states[2 * b], states[2 * b + 1]) for b in range(blocks)],
        "token_mean": [tokens.mean(0) for tokens in states],
        "within_spread": [np.sqrt(((tokens - tokens.mean(0)) ** 2).sum(1).mean()) for tokens in states],
        "token_log_singular_value": [_log_spectrum(tokens) for tokens in whole],
        "relative_log_amplitude": [_half_diagonal(tokens) for tokens in states],
    }
    if heads > 1:
        values["head_similarity"] = [_heads_alike(head_outputs[b]) for b in range(blocks)]
    return {name: np.asarray(array) for name, array in values.items()}


# ---- maps ----------------------------------------------------------------------------------------


def _distances(count: int, patch_size: int) -> np.ndarray:
    grid = int(np.sqrt(count))
    places = np.stack(np.meshgrid(np.arange(grid), np.arange(grid), indexing="ij"), -1).reshape(-1, 2) * patch_size
    return np.linalg.norm(places[:, None] - places[None], axis=-1)


def _map_values(rows: np.ndarray, distances: np.ndarray) -> tuple[float, float, float, float]:
    """Distance, NMI, entropy and likeness of queries of one map (N, N)."""
    rows = rows + 1e-8
    rows /= rows.sum(1, keepdims=True)
    joint = rows / len(rows)
    marginal = joint.sum(0)
    information = (joint * np.log(rows / marginal)).sum()
    entropy = -(marginal * np.log(marginal)).sum()
    return (
        (rows * distances).sum(1).mean(),
        information / np.sqrt(np.log(len(rows)) * entropy),
        -(rows * np.log(rows)).sum(1).mean() / np.log(len(rows)),
        _tokens_alike(rows),
    )


# ---- similarities --------------------------------------------------------------------------------


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def _tokens_alike(tokens: np.ndarray) -> float:
    cosines = _unit(tokens) @ _unit(tokens).T
    return cosines[~np.eye(len(tokens), dtype=bool)].mean()


def _heads_alike(outputs: np.ndarray) -> float:
    pairs = [(one, two) for one in range(len(outputs)) for two in range(one)]
    return float(np.mean([_same_token(outputs[one], outputs[two]) for one, two in pairs]))


def _same_token(before: np.ndarray, after: np.ndarray) -> float:
    return (_unit(before) * _unit(after)).sum(-1).mean()


# ---- states --------------------------------------------------------------------------------------


def _displacement(before: np.ndarray, after: np.ndarray) -> float:
    moved = after - before
    mean = moved.mean(0)
    return ((moved - mean) ** 2).sum(1).mean() / (mean**2).sum()


def _log_spectrum(tokens: np.ndarray) -> np.ndarray:
    """As the author does it: the singular values of the D x D covariance."""
    values = np.linalg.svd(np.cov(tokens, rowvar=False), compute_uv=False)[: min(tokens.shape) - 1]
    return np.log(np.maximum(values, _FLOOR * values[0]))


def _half_diagonal(tokens: np.ndarray) -> np.ndarray:
    grid = int(np.sqrt(len(tokens)))
    maps = tokens.T.reshape(-1, grid, grid)
    logs = np.log(np.abs(np.fft.fft2(maps)) + 1e-6).mean(0).diagonal()[: (grid + 1) // 2]
    return logs - logs[0]
