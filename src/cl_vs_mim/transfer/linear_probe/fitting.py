"""Many linear classifiers at once: every feature set, learning rate and kind of label in one batched product a step.

All probes see the same images in the same order. Those on one feature set share its batch, so their weights lie side
by side as the columns of one matrix, and a step of all is one product (S, B, D) x (S, D, R K) forwards and one
backwards. The gradient of the cross-entropy is written out (softmax minus target): nothing else is differentiated.

Shapes: M images, n of them trained on, S feature sets (depth x pooling), D channels, R learning rates, K classes,
B images a step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from cl_vs_mim.config.analysis import Probe as ProbeSettings
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.progress import progress
from cl_vs_mim.core.randomness import generator_for

_LR_BATCH = 256  # images that a learning rate of the YAML is for (arXiv 1706.02677)
_EPS = 1e-6  # added to the variance, as in MAE's probe (code)
_DEEPEST = 46.0  # logits farther below the largest count as that far: a probability of 1e-20, lost in any sum. Without
# it, probabilities and gradients become denormal numbers, which made a step up to ten times slower on a CPU.
_CHUNK = 256  # images at a time where nothing is trained

# ------------------------------------------------------------------------------------------------
# Standardisation
# ------------------------------------------------------------------------------------------------


class Standardisation(NamedTuple):
    """BatchNorm without affine parameters: ``(features - mean) * scale``."""

    mean: Tensor  # (S, D)
    scale: Tensor  # (S, D), 1 / sqrt(variance + 1e-6)


def standardisation(features: Tensor, positions: Tensor) -> Standardisation:
    """Exact mean and variance of the images trained on: (M, S, D) features, (n,) positions.

    The originals normalise by the batch while training and by a running average afterwards. On cached features both
    estimate the same numbers, which are computed here once, in float64: a probe is then one linear map, the same in
    training and in evaluation and whatever the batches.
    """
    total = torch.zeros(features.shape[1:], dtype=torch.float64, device=features.device)
    for chunk in positions.split(_CHUNK):
        total += features[chunk].double().sum(dim=0)
    mean = total / len(positions)
    squares = torch.zeros_like(total)
    for chunk in positions.split(_CHUNK):
        squares += (features[chunk].double() - mean).square().sum(dim=0)
    scale = (squares / len(positions) + _EPS).rsqrt()
    return Standardisation(mean.float(), scale.float())


# ------------------------------------------------------------------------------------------------
# Training
# ------------------------------------------------------------------------------------------------


class LinearMaps(NamedTuple):
    """Weights of all probes of one kind of label, on standardised features."""

    weight: Tensor  # (S, R, K, D)
    bias: Tensor  # (S, R, K)


def fit_probes(
    features: Tensor,
    positions: Tensor,
    targets: Mapping[str, Tensor],
    class_counts: Mapping[str, int],
    settings: ProbeSettings,
    standard: Standardisation,
    *,
    sets: Sequence[str],
    device: torch.device,
    desc: str = "probes",
) -> dict[str, LinearMaps]:
    """Train one linear classifier for each feature set, learning rate and kind of label.

    Softmax regression by SGD with momentum from zero weights (the loss is convex: no start is better, and none needs
    a seed), half a cosine from ``rate * batch / 256`` to 0 without warm-up, images shuffled anew each epoch from
    ``settings.seed``; what does not fill a batch waits for another epoch. Weight decay, if any, is added to the
    gradient, of the bias too, as ``torch.optim.SGD`` does. On one device and number of threads, equal arguments give
    equal bits.

    Args:
        features: (M, S, D), float32 or float16; in memory, on ``device``, or mapped from a file.
        positions: (n,) int64, the images to train on.
        targets: kind of label -> (M,) int64.
        class_counts: kind of label -> K.
        settings: learning rates, epochs, batch size, momentum, weight decay, seed.
        standard: how the features are standardised.
        sets: S names, for messages.
        device: where the products are computed.
        desc: text of the progress bar.

    Raises:
        UserError: a loss is not finite; the message says of which probe.
    """
    count, batch = len(positions), min(settings.batch_size, len(positions))
    steps = count // batch
    channels, rates = features.shape[2], len(settings.learning_rates)
    states = {
        kind: _State.zeros(len(sets), channels, rates, classes, batch, device) for kind, classes in class_counts.items()
    }
    base = torch.tensor(settings.learning_rates, device=device) * (batch / _LR_BATCH)  # (R,)
    columns = {kind: base.repeat_interleave(classes) for kind, classes in class_counts.items()}  # (R K,)
    targets = {kind: numbers.to(device) for kind, numbers in targets.items()}
    standard = Standardisation(*(part.to(device) for part in standard))
    with progress(total=settings.epochs, desc=desc, unit="epoch") as bar:
        for epoch in range(settings.epochs):
            order = positions[torch.randperm(count, generator=generator_for(settings.seed, "probe", epoch))]
            chunks = order[: steps * batch].split(batch)
            for step, (chunk, inputs) in enumerate(_inputs(features, chunks, standard, device)):
                done = (epoch * steps + step) / (settings.epochs * steps)
                cosine = 0.5 * (1 + math.cos(math.pi * done))
                for kind, state in states.items():
                    state.step(inputs, targets[kind][chunk.to(device)], columns[kind] * cosine, settings)
            for kind, state in states.items():
                _require_finite(state, inputs, targets[kind][chunk.to(device)], kind, sets, settings.learning_rates)
            bar.update(1)
    return {kind: state.maps() for kind, state in states.items()}


class _State:
    """Weights, velocity and work space of all probes of one kind of label; row D of the weights is the bias."""

    def __init__(self, weight: Tensor, rates: int, batch: int) -> None:
        self.weight = weight  # (S, D+1, R K)
        self.velocity = torch.zeros_like(weight)
        self.shape = (weight.shape[0], batch, rates, weight.shape[2] // rates)  # S, B, R, K
        self.logits = weight.new_empty(weight.shape[0], batch, weight.shape[2])
        self.errors = torch.empty_like(self.logits)
        self.minus_one = weight.new_full((), -1.0).expand(*self.shape[:3], 1)

    @classmethod
    def zeros(cls, sets: int, channels: int, rates: int, classes: int, batch: int, device: torch.device) -> _State:
        return cls(torch.zeros(sets, channels + 1, rates * classes, device=device), rates, batch)

    def step(self, inputs: Tensor, target: Tensor, columns: Tensor, settings: ProbeSettings) -> None:
        """One step on inputs (S, B, D+1) and target (B,) with a learning rate for each column, (R K,)."""
        torch.bmm(inputs, self.weight, out=self.logits)
        logits, errors = self.logits.view(self.shape), self.errors.view(self.shape)
        torch.maximum(logits, logits.amax(dim=-1, keepdim=True) - _DEEPEST, out=logits)
        torch.softmax(logits, dim=-1, out=errors)
        errors.scatter_add_(-1, target.view(1, -1, 1, 1).expand_as(self.minus_one), self.minus_one)
        # v <- momentum v + gradient of the mean loss; w <- w - rate v
        mean = 1 / inputs.shape[1]
        torch.baddbmm(self.velocity, inputs.mT, self.errors, beta=settings.momentum, alpha=mean, out=self.velocity)
        if settings.weight_decay:
            self.velocity.add_(self.weight, alpha=settings.weight_decay)
        self.weight.addcmul_(self.velocity, columns, value=-1)

    def losses(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(S, R) mean cross-entropy."""
        logits = torch.bmm(inputs, self.weight).view(self.shape)
        numbers = target.view(1, -1, 1).expand(self.shape[:3])
        losses = functional.cross_entropy(logits.flatten(0, 2), numbers.flatten(), reduction="none")
        return losses.view(self.shape[:3]).mean(dim=1)

    def maps(self) -> LinearMaps:
        sets, rows, _ = self.weight.shape
        weight = self.weight.view(sets, rows, *self.shape[2:]).permute(0, 2, 3, 1)  # (S, R, K, D+1)
        return LinearMaps(weight[..., :-1].contiguous(), weight[..., -1].contiguous())


def _inputs(
    features: Tensor, chunks: Sequence[Tensor], standard: Standardisation, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Positions (B,) and inputs (S, B, D+1), the last channel 1; the next ones are read while these are used."""
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(_read, features, chunks[0])
        for place, chunk in enumerate(chunks):
            values = ahead.result()
            if place + 1 < len(chunks):
                ahead = pool.submit(_read, features, chunks[place + 1])
            standardised = (values.to(device).float() - standard.mean) * standard.scale  # (B, S, D)
            inputs = standardised.new_ones(standardised.shape[1], len(chunk), standardised.shape[2] + 1)
            inputs[..., :-1] = standardised.transpose(0, 1)
            yield chunk, inputs


def _read(features: Tensor, chunk: Tensor) -> Tensor:
    return features[chunk.to(features.device)]


def _require_finite(
    state: _State, inputs: Tensor, target: Tensor, kind: str, sets: Sequence[str], rates: Sequence[float]
) -> None:
    finite = torch.isfinite(state.losses(inputs, target))  # (S, R)
    if finite.all():
        return
    place, rate = torch.nonzero(~finite)[0].tolist()
    raise UserError(
        f"the probe of {kind} at {sets[place]} with learning rate {rates[rate]:g} has a loss that is not finite; "
        "lower the largest of analysis.probe.learning_rates"
    )


# ------------------------------------------------------------------------------------------------
# Use
# ------------------------------------------------------------------------------------------------


@torch.inference_mode()
def predict(
    features: Tensor, positions: Tensor, maps: LinearMaps, standard: Standardisation, device: torch.device
) -> Tensor:
    """(n, S, R) int64 on the CPU: the class that each probe names for each of the images at ``positions``."""
    sets, rates, classes, _ = maps.weight.shape
    weight = torch.cat([maps.weight, maps.bias.unsqueeze(-1)], dim=-1).to(device)  # (S, R, K, D+1)
    matrix = weight.flatten(1, 2).mT  # (S, D+1, R K)
    standard = Standardisation(*(part.to(device) for part in standard))
    predictions = [
        torch.bmm(inputs, matrix).view(sets, -1, rates, classes).argmax(dim=-1).transpose(0, 1).cpu()
        for _, inputs in _inputs(features, positions.split(_CHUNK), standard, device)
    ]
    return torch.cat(predictions)
