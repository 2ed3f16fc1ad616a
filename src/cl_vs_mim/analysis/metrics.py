"""Everything that is measured in one pass of an encoder, as streaming metrics, by the table it goes into."""

from __future__ import annotations

from torch import Tensor

from cl_vs_mim.analysis.movement import displacement_variation, token_mean, within_spread
from cl_vs_mim.analysis.streaming import BlockMetric, StateMetric
from cl_vs_mim.encoder.model import BlockTrace, EncoderSpec
from cl_vs_mim.metrics.attention import (
    attention_distance,
    attention_entropy,
    normalized_mutual_information,
    query_similarity,
)
from cl_vs_mim.metrics.diversity import depth_similarity, head_similarity, token_similarity
from cl_vs_mim.metrics.fourier import relative_log_amplitudes
from cl_vs_mim.metrics.spectrum import token_log_singular_values

# ------------------------------------------------------------------------------------------------
# Attention maps (Figures 2 to 4)
# ------------------------------------------------------------------------------------------------


class AttentionDistance(BlockMetric):
    """Figure 3, in pixels of the input: (B, H)."""

    name = "attention_distance"

    def __init__(self, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size

    def measure(self, trace: BlockTrace) -> Tensor:
        return attention_distance(trace.attention, self.patch_size)


class NormalizedMutualInformation(BlockMetric):
    """Figure 4, between 0 and 1: (B, H)."""

    name = "nmi"

    def measure(self, trace: BlockTrace) -> Tensor:
        return normalized_mutual_information(trace.attention)


class AttentionEntropy(BlockMetric):
    """Beside Figure 4, between 0 (one key) and 1 (uniform): (B, H)."""

    name = "attention_entropy"

    def measure(self, trace: BlockTrace) -> Tensor:
        return attention_entropy(trace.attention)


class QuerySimilarity(BlockMetric):
    """Beside Figure 2, between 0 (no common patch) and 1 (one map for all queries): (B, H)."""

    name = "query_similarity"

    def measure(self, trace: BlockTrace) -> Tensor:
        return query_similarity(trace.attention)


def attention_metrics(patch_size: int) -> list[BlockMetric]:
    """All metrics of the attention maps, new and empty."""
    return [AttentionDistance(patch_size), NormalizedMutualInformation(), AttentionEntropy(), QuerySimilarity()]


# ------------------------------------------------------------------------------------------------
# Diversity (Figure 5)
# ------------------------------------------------------------------------------------------------


class HeadSimilarity(BlockMetric):
    """Figure 5 (a): (B,)."""

    name = "head_similarity"

    def measure(self, trace: BlockTrace) -> Tensor:
        return head_similarity(trace.head_outputs)


class DepthSimilarityAttention(BlockMetric):
    """Figure 5 (b), a token before and after the attention residual: (B,)."""

    name = "depth_similarity_attention"

    def measure(self, trace: BlockTrace) -> Tensor:
        return depth_similarity(trace.before, trace.after_attention)


class DepthSimilarityBlocks(BlockMetric):
    """Figure 5 (b), a token as the block's input and output: (B,)."""

    name = "depth_similarity_blocks"

    def measure(self, trace: BlockTrace) -> Tensor:
        return depth_similarity(trace.before, trace.after_mlp)


class TokenSimilarityHeads(BlockMetric):
    """Figure 5 (c), outputs of a head: (B, H)."""

    name = "token_similarity_heads"

    def measure(self, trace: BlockTrace) -> Tensor:
        return token_similarity(trace.head_outputs)


class TokenSimilarityBlocks(BlockMetric):
    """Figure 5 (c), tokens that a block gives out: (B,)."""

    name = "token_similarity_blocks"

    def measure(self, trace: BlockTrace) -> Tensor:
        return token_similarity(trace.after_mlp)


def diversity_metrics(heads: int) -> list[BlockMetric]:
    """All similarities, new and empty; a single head has no other to be like."""
    between = [HeadSimilarity()] if heads > 1 else []
    within = [TokenSimilarityHeads(), TokenSimilarityBlocks()]
    return [*between, DepthSimilarityAttention(), DepthSimilarityBlocks(), *within]


# ------------------------------------------------------------------------------------------------
# Tokens (Figures 6, 7 and 8)
# ------------------------------------------------------------------------------------------------


class DisplacementVariation(BlockMetric):
    """Figure 6, claim C14: (B,)."""

    name = "displacement_variation"

    def measure(self, trace: BlockTrace) -> Tensor:
        return displacement_variation(trace.before, trace.after_attention)


class TokenMean(StateMetric):
    """Mean patch token: (B, D). For the image-level spectrum and the separation of images."""

    name = "token_mean"

    def measure(self, tokens: Tensor) -> Tensor:
        return token_mean(tokens)


class WithinSpread(StateMetric):
    """Spread of the tokens of an image: (B,). For the separation of images."""

    name = "within_spread"

    def measure(self, tokens: Tensor) -> Tensor:
        return within_spread(tokens)


class TokenSpectrum(StateMetric):
    """Figure 7, token level: (B, R). Whole blocks only: it costs as much as all other metrics together."""

    name = "token_log_singular_value"
    every = 2

    def measure(self, tokens: Tensor) -> Tensor:
        return token_log_singular_values(tokens)


class Fourier(StateMetric):
    """Figure 8: (B, F)."""

    name = "relative_log_amplitude"

    def measure(self, tokens: Tensor) -> Tensor:
        return relative_log_amplitudes(tokens)


# ------------------------------------------------------------------------------------------------
# All
# ------------------------------------------------------------------------------------------------


class AllMetrics:
    """New and empty metrics for one pass of one encoder: everything behind Figures 3 to 8."""

    def __init__(self, spec: EncoderSpec) -> None:
        self.attention = attention_metrics(spec.patch_size)
        self.diversity = diversity_metrics(spec.heads)
        self.displacement = DisplacementVariation()
        self.token_mean, self.within_spread = TokenMean(), WithinSpread()
        self.token_spectrum, self.fourier = TokenSpectrum(), Fourier()

    def __iter__(self):
        """All of them, to be fed."""
        yield from (*self.attention, *self.diversity, self.displacement)
        yield from (self.token_mean, self.within_spread, self.token_spectrum, self.fourier)
