"""The description of an encoder as plain data, apart from torch so that reading a config stays quick."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from typing import Any

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.encoder.families import FAMILIES

# Beyond every encoder that was published. They also hold a file's header before anything is built by it.
MAX_SIDE, MAX_GRID, MAX_WIDTH, MAX_DEPTH, MAX_RATIO = 8192, 128, 65536, 256, 64.0


# Fields that only some encoders have; where they say nothing they are left out, so that what was written before them,
# and its hashes, stays as it is.
RECENT = ("variant", "pixel_mean", "pixel_std")


def require_whole(name: str, value: Any, least: int, most: int) -> None:
    """Raise ValueError unless ``value`` is a whole number from ``least`` to ``most``."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name} should be a whole number from {least} to {most}, not {value!r:.80}")


def require_number(name: str, value: Any, least: float, most: float) -> None:
    """Raise ValueError unless ``value`` is a finite number from ``least`` to ``most``."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not (number and least <= value <= most):
        raise ValueError(f"{name} should be a number from {least:g} to {most:g}, not {value!r:.80}")


@dataclass(frozen=True)
class EncoderSpec:
    """All that decides an encoder's function besides its weights. Sizes in pixels, tokens and channels.

    ``heads`` and ``layer_norm_eps`` change the answer without changing any tensor's shape, so a checkpoint
    alone never determines an encoder. ``family`` is one of :data:`cl_vs_mim.encoder.families.FAMILIES`, which says the
    kinds of ``positions`` it takes (``sincos``, ``learned``, ``relative`` …). ``variant`` is timm's name of an
    architecture, for the family that is built by it. ``pixel_mean`` and ``pixel_std`` are what images in 0 … 1 were
    normalised by, a number for each colour; None: ImageNet's.

    Raises:
        ValueError: there is no such family, a field is out of range, or the fields contradict each other.
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
    variant: str | None = None
    pixel_mean: tuple[float, ...] | None = None
    pixel_std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        require_whole("image_size", self.image_size, 1, MAX_SIDE)
        require_whole("patch_size", self.patch_size, 1, self.image_size)
        require_whole("width", self.width, 1, MAX_WIDTH)
        require_whole("depth", self.depth, 1, MAX_DEPTH)
        require_whole("heads", self.heads, 1, self.width)
        require_number("mlp_ratio", self.mlp_ratio, 1e-6, MAX_RATIO)
        require_number("layer_norm_eps", self.layer_norm_eps, 1e-15, 1.0)
        require_number("drop_path", self.drop_path, 0.0, 1.0)
        if self.layer_scale is not None:
            require_number("layer_scale", self.layer_scale, -1e6, 1e6)
        for name in ("family", "positions"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} should be a name, not {getattr(self, name)!r:.80}")
        if self.variant is not None and not (
            isinstance(self.variant, str) and re.fullmatch(r"[a-z0-9_]+", self.variant)
        ):
            raise ValueError(f"variant should be timm's name of an architecture, not {self.variant!r:.80}")
        self._check_pixels()
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}")
        require_whole("patches along a side", self.grid, 1, MAX_GRID)
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        try:
            family = FAMILIES[self.family]
        except UserError as error:
            raise ValueError(str(error)) from error
        family.check(self)

    def _check_pixels(self) -> None:
        if (self.pixel_mean is None) != (self.pixel_std is None):
            raise ValueError("pixel_mean and pixel_std: one needs the other")
        for name, least in (("pixel_mean", -1e3), ("pixel_std", 1e-6)):
            values = getattr(self, name)
            if values is None:
                continue
            if not isinstance(values, list | tuple) or len(values) != 3:
                raise ValueError(f"{name} should be three numbers, not {values!r:.80}")
            for value in values:
                require_number(name, value, least, 1e3)
            object.__setattr__(self, name, tuple(map(float, values)))  # a file's header gives a list

    @property
    def grid(self) -> int:
        """Patches along one side of the image."""
        return self.image_size // self.patch_size

    def to_dict(self) -> dict[str, object]:
        """The specification as plain data, for configs, hashes and checkpoint headers."""
        return {name: value for name, value in asdict(self).items() if name not in RECENT or value is not None}
