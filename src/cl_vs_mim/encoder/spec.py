"""The description of an encoder as plain data, apart from torch so that reading a config stays quick."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.encoder.families import FAMILIES


@dataclass(frozen=True)
class EncoderSpec:
    """All that decides an encoder's function besides its weights. Sizes in pixels, tokens and channels.

    ``heads`` and ``layer_norm_eps`` change the answer without changing any tensor's shape, so a checkpoint
    alone never determines an encoder. ``family`` is one of :data:`cl_vs_mim.encoder.families.FAMILIES`, which says the
    kinds of ``positions`` it takes (``sincos``, ``learned``, ``relative`` …).

    Raises:
        ValueError: there is no such family, or the fields contradict each other.
    """

    family: str
    image_size: int
    patch_size: int
    width: int
    depth: int
    heads: int
    mlp_ratio: float = 4.0
    positions: str = "sincos"
    layer_scale: float | None = None
    layer_norm_eps: float = 1e-6
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        try:
            family = FAMILIES[self.family]
        except UserError as error:
            raise ValueError(str(error)) from error
        family.check(self)

    @property
    def grid(self) -> int:
        """Patches along one side of the image."""
        return self.image_size // self.patch_size

    def to_dict(self) -> dict[str, object]:
        """The specification as plain data, for configs, hashes and checkpoint headers."""
        return asdict(self)
