"""The description of an encoder as plain data, apart from torch so that reading a config stays quick."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True)
class EncoderSpec:
    """All that decides an encoder's function besides its weights. Sizes in pixels, tokens and channels.

    ``heads`` and ``layer_norm_eps`` change the answer without changing any tensor's shape, so a checkpoint
    alone never determines an encoder.
    """

    family: Literal["vit", "beit"]
    image_size: int
    patch_size: int
    width: int
    depth: int
    heads: int
    mlp_ratio: float = 4.0
    positions: Literal["sincos", "learned", "relative"] = "sincos"
    layer_scale: float | None = None
    layer_norm_eps: float = 1e-6
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if (self.family == "beit") != (self.positions == "relative"):
            raise ValueError(f"family {self.family!r} does not take positions {self.positions!r}")
        if self.positions == "sincos" and self.width % 4:
            raise ValueError(f"sin-cos positions need a width divisible by 4, not {self.width}")

    @property
    def grid(self) -> int:
        """Patches along one side of the image."""
        return self.image_size // self.patch_size

    def to_dict(self) -> dict[str, object]:
        """The specification as plain data, for configs, hashes and checkpoint headers."""
        return asdict(self)
