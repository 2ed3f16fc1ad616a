"""Attentive probes of one depth: a query for each learning rate, and the linear layer that reads what it gathers.

    attention = softmax(tokens . query / sqrt(D));  logits = weight (attention . tokens) + bias

The one query of one head is the smallest of the attentive probes (Bardes et al., arXiv 2404.08471, have a whole block
of cross-attention): it can look away from tokens that hold nothing, which the mean cannot, and little else. All begin
at 0, that is as probes of the mean token, so that no start has to be drawn.

Shapes: B images, T tokens, D channels, R learning rates, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

_LR_BATCH = 256  # images that a learning rate of the YAML is for
_EPS = 1e-6  # added to the variance, as in the protocol `cached`


class Channels:
    """Mean and variance of each channel over the tokens trained on, exactly, in float64, while batches come by."""

    def __init__(self) -> None:
        self.count, self.total, self.squares = 0, torch.zeros(()), torch.zeros(())

    def add(self, tokens: Tensor) -> None:
        """More tokens (B, T, D)."""
        values = tokens.flatten(0, 1).double()
        self.count += len(values)
        self.total = self.total.to(values.device) + values.sum(dim=0)
        self.squares = self.squares.to(values.device) + values.square().sum(dim=0)

    def standardised(self, tokens: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        mean = self.total / self.count
        scale = ((self.squares / self.count - mean.square()).clamp(min=0) + _EPS).rsqrt()
        return (tokens - mean.float()) * scale.float()


class Probes(nn.Module):
    """The probes of one depth and kind of label, one for each learning rate.

    Args:
        width: D.
        classes: K.
        rates: the learning rates, per 256 images.
        momentum: of the gradients.
    """

    def __init__(self, width: int, classes: int, rates: list[float], momentum: float) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(len(rates), width))
        self.weight = nn.Parameter(torch.zeros(len(rates), classes, width))
        self.bias = nn.Parameter(torch.zeros(len(rates), classes))
        self.register_buffer("rates", torch.tensor(rates))
        self.momentum = momentum
        self.velocity = [torch.zeros_like(one) for one in self.parameters()]

    def forward(self, tokens: Tensor) -> Tensor:
        """Standardised tokens (B, T, D) -> logits (B, R, K)."""
        scores = torch.einsum("btd,rd->brt", tokens, self.query) * tokens.shape[-1] ** -0.5
        gathered = scores.softmax(dim=-1) @ tokens  # (B, R, D)
        return torch.einsum("brd,rkd->brk", gathered, self.weight) + self.bias

    def step(self, tokens: Tensor, targets: Tensor, share: float) -> float:
        """One step of SGD of all rates on standardised tokens (B, T, D) and targets (B,); the sum of their losses.

        Args:
            tokens: of the images.
            targets: their labels.
            share: of each learning rate, by the schedule.
        """
        logits = self(tokens)
        losses = [cross_entropy(logits[:, rate], targets) for rate in range(logits.shape[1])]
        total = torch.stack(losses).sum()  # no probe shares a weight with another
        gradients = torch.autograd.grad(total, list(self.parameters()))
        scale = self.rates * (share * len(tokens) / _LR_BATCH)
        with torch.no_grad():
            for weight, gradient, velocity in zip(self.parameters(), gradients, self.velocity, strict=True):
                velocity.mul_(self.momentum).add_(gradient)
                weight.sub_(velocity * scale.view(-1, *[1] * (weight.ndim - 1)))
        return float(total.detach())
