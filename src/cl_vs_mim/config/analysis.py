"""What encoders are measured on, how, and what the figures show of it.

Where the paper does not say how something was done, the choice is a key here, marked UNKNOWN.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from cl_vs_mim.config.sections import Count, Decay, Fraction, Name, NonNegative, Ordered, Section, Seed, Seeds, Unique

Block = int  # 1 … L, or negative from the end (-1 = the last one)
Labels = Literal["class", "category"]  # the folder of an image, or the column of that name in images.csv

# ------------------------------------------------------------------------------------------------
# Measurements
# ------------------------------------------------------------------------------------------------


class Spectrum(Section):
    """Figure 7."""

    resamples: PositiveInt = 100  # bootstrap over images of the image-level spectrum


class Movement(Section):
    """Figure 6. UNKNOWN in the paper: images, blocks, basis."""

    images: tuple[Count, Count]  # indices into the analysed images; the first alone is drawn too
    early: Block = 1
    late: Block = -1
    basis: Literal["joint", "separate"] = "joint"  # one SVD for all panels of an encoder, or one for each panel


class Embedding(Section):
    """t-SNE of tokens (Figure E.2)."""

    labels: Labels
    classes: PositiveInt = 3
    images_per_class: PositiveInt = 6
    blocks: Annotated[list[Block], Field(min_length=1), Unique]  # UNKNOWN in the paper
    perplexity: PositiveFloat = 20.0  # drawn
    alternatives: Annotated[tuple[PositiveFloat, ...], Unique] = (
        10.0,
        40.0,
    )  # perplexities whose purities are computed too
    iterations: PositiveInt = 1000
    neighbours: PositiveInt = 10  # of the purity
    seed: Seed = 0  # of the choice of images and of the embedding


class Probe(Section):
    """Linear probes on cached features, protocol ``cached`` (Figure 10). UNKNOWN in the paper: pooling and norm."""

    labels: Annotated[list[Labels], Field(min_length=1), Unique]
    learning_rates: Annotated[
        list[PositiveFloat], Field(min_length=1), Unique
    ]  # per 256 images; chosen on held-back images
    selection_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1  # of the training images, held back for the choice
    epochs: PositiveInt
    batch_size: PositiveInt
    momentum: Decay = 0.9
    weight_decay: NonNegative = 0.0
    final_norm: bool = False  # the encoder's last LayerNorm before the probe
    precision: Literal["float32", "float16"] = "float32"  # of the cached features (ImageNet: float16 halves 100 GB)
    seed: Seed = 0


class FourierNoise(Section):
    """Figure 9 (b). UNKNOWN in the paper: bands, amplitude."""

    frequencies: Annotated[
        list[PositiveFloat], Field(min_length=1), Ordered, Unique
    ]  # centres of the bands, in units of pi
    widths: Annotated[list[PositiveFloat], Field(min_length=1), Unique]  # in units of pi; the first is drawn
    rms: PositiveFloat  # root mean square of the noise, pixels being 0 … 1; the same in every band
    seed: Seed = 0


class Robustness(Section):
    """Figure 9: cue conflict and noise, read by a linear probe."""

    labels: Labels  # of the probe; those of the cue-conflict images
    pooling: Literal["cls", "mean"] = "mean"
    block: Block = -1
    noise: FourierNoise


class Reconstruction(Section):
    """Figure 11: masked images as the decoders paint them."""

    images: Annotated[list[Count], Field(min_length=1), Unique]  # indices into the analysed images
    seed: Seed = 0  # of the masks


class Phenomena(Section):
    """Time to phenomenon: what the encoders kept during a training are measured on, and when an effect counts as there.

    Distances are shares of that of uniform attention, entropies of their largest value.
    """

    images: PositiveInt  # of the validation set
    memory: PositiveInt  # training images that vote as nearest neighbours
    neighbours: PositiveInt = 20
    near: Fraction = 0.8  # masked images: the distance of this share of the blocks is at most that
    near_blocks: Annotated[float, Field(gt=0, le=1)] = 0.5
    valley: Fraction = 0.05  # contrastive: the distance dips by more than that, and rises again
    concentrated: Fraction = 0.1  # contrastive: the entropy of late blocks is lower than untrained by more than that
    agree: Fraction = 0.7  # … while the cosine between the maps of different queries is at least that
    late: Annotated[float, Field(gt=0, le=1)] = 0.34  # share of the blocks, from the end, that count as late

    @model_validator(mode="after")
    def _enough_neighbours(self) -> Phenomena:
        if self.neighbours > self.memory:
            raise ValueError(f"neighbours: {self.neighbours} of memory {self.memory}")
        return self


class Analysis(Section):
    """What the trained and untrained encoders are measured on."""

    images: PositiveInt  # of the validation set, spread evenly over its classes
    seed: Seed = 0  # of the selection
    crop_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0  # centre crop (ImageNet: 0.875; composed images: 1)
    batch_size: PositiveInt
    grids: Annotated[list[Annotated[int, Field(ge=2)]], Unique] = Field(
        default_factory=list
    )  # patches a side: measured on images of
    # other sizes too, for the audit's multiverse; positions are resampled
    control_seeds: Seeds  # of the untrained encoder of each architecture
    spectrum: Spectrum
    movement: Movement
    embedding: Embedding
    probe: Probe
    robustness: Robustness
    reconstruction: Reconstruction
    phenomena: Phenomena | None = None


# ------------------------------------------------------------------------------------------------
# Figures
# ------------------------------------------------------------------------------------------------


class Bootstrap(Section):
    """Percentile bootstrap over images."""

    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    resamples: PositiveInt = 2000
    seed: Seed = 0


class AttentionMapFigure(Section):
    """Figure 2. UNKNOWN in the paper: block, head, image; these are our choices."""

    image: Count  # index into the analysed images
    block: Block
    head: Count  # drawn beside the mean over heads
    queries: Literal["object_background"] | tuple[tuple[Count, Count], tuple[Count, Count]] = "object_background"
    # object_background: the patch deepest inside the object and the patch farthest from it (needs images.csv of the
    # composer); or two patches as [row, column]


class DiversityFigure(Section):
    """Figure 5. UNKNOWN in the paper: which tensor, which depths; every variant is in the table."""

    depths: Literal["attention", "blocks"] = "attention"  # before and after self-attention, or block to block
    tokens: Literal["heads", "blocks"] = "heads"  # per-head outputs, or the tokens a block gives out


class SpectrumFigure(Section):
    """Figure 7. UNKNOWN in the paper: the rank at which depths are compared."""

    rank_fraction: Annotated[float, Field(gt=0, le=1)] = 0.33  # of the token-level ranks (64 of 195)


class Figures(Section):
    """Choices that only concern drawing."""

    pair: tuple[Name, Name]  # the contrastive and the masked-image model of Figures 2 to 11
    bootstrap: Bootstrap
    attention_maps: AttentionMapFigure
    diversity: DiversityFigure
    spectrum: SpectrumFigure
