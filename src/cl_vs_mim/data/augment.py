"""Random augmentation of a whole batch at once, on the device that holds it, as a ``View`` of the YAML describes it.

Every image has its own parameters. They are drawn on the CPU from an explicit generator, so a seed means the same
augmentation on every device; only the arithmetic runs on the images' device. It follows torchvision's transforms
on float images, in the order in which MoCo v3 applies them: crop and flip, jitter, grayscale, blur, solarize,
normalise (a flip commutes with all that follows).

Two things differ from torchvision on purpose: the four parts of a colour jitter come in an order that is random per
batch and not per image, and blur is truncated at a radius instead of a kernel size.

Crop with resize and blur are both separable and linear, so each is two small matrices per image, one for the rows
and one for the columns: batched matrix products, the same on CPU and GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cl_vs_mim.config import View
from cl_vs_mim.config.views import RandAugment
from cl_vs_mim.data.images import normalise

_ATTEMPTS = 10  # of RandomResizedCrop, as in torchvision
_BLUR_REFERENCE = 224  # px: image size at which the YAML gives the blur's sigma
_BLUR_RADIUS = 4.0  # in sigmas; what lies beyond weighs less than one grey level
_LUMA = (0.2989, 0.587, 0.114)  # torchvision's weights of R, G and B

# ------------------------------------------------------------------------------------------------
# Draws
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Draws:
    """Parameters of one view for each of B images. Tensors on the CPU."""

    box: Tensor  # (B, 4) float32: top, left, height, width of the crop in pixels of the source
    flip: Tensor  # (B,) bool
    jitter: Tensor  # (B, 4) float32: factors of brightness, contrast, saturation, and shift of hue
    jitter_order: tuple[int, ...]  # permutation of the four, for the whole batch
    grayscale: Tensor  # (B,) bool
    sigma: Tensor  # (B,) float32: of the blur in output pixels; 0 is none
    solarize: Tensor  # (B,) bool
    rand_augment: Tensor  # (B,) int64: seed of RandAugment; empty without it

    def part(self, rows: slice) -> Draws:
        """The parameters of some of the images."""
        tensors = {name: value[rows] for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **tensors)

    def after_crop(self, image_size: int) -> Draws:
        """What is left to do where somebody else has cut and resized the box to ``image_size`` px."""
        whole = torch.tensor([0.0, 0.0, image_size, image_size])
        return replace(self, box=whole.expand(len(self.box), 4))


def draw(view: View, batch: int, source: int | Tensor, image_size: int, generator: torch.Generator) -> Draws:
    """Draw the parameters of ``batch`` images that become ``image_size`` px.

    ``source`` is the side of square images, px, or the height and width of each, (B, 2). It scales what is drawn and
    takes no part in the drawing.
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(batch, *shape, generator=generator)

    def chosen(probability: float) -> Tensor:
        return torch.rand(batch, generator=generator) < probability

    strengths = torch.tensor([view.brightness, view.contrast, view.saturation, view.hue])
    neutral = torch.tensor([1.0, 1.0, 1.0, 0.0])
    low = (neutral - strengths).maximum(torch.tensor([0.0, 0.0, 0.0, -0.5]))  # a factor is never negative
    high = neutral + strengths
    jitter = low + (high - low) * torch.rand(batch, 4, generator=generator)
    sigma = view.blur.sigma if view.blur is not None else (0.0, 0.0)
    probability = view.blur.probability if view.blur is not None else 0.0
    return Draws(
        box=_draw_box(view, batch, torch.as_tensor(source), generator),
        flip=chosen(view.flip),
        jitter=torch.where(chosen(view.jitter_probability)[:, None], jitter, neutral),
        jitter_order=tuple(torch.randperm(4, generator=generator).tolist()),
        grayscale=chosen(view.grayscale),
        sigma=torch.where(chosen(probability), uniform(*sigma) * image_size / _BLUR_REFERENCE, 0.0),
        solarize=chosen(view.solarize),
        rand_augment=torch.randint(2**62, (batch if view.rand_augment is not None else 0,), generator=generator),
    )


def _draw_box(view: View, batch: int, source: Tensor, generator: torch.Generator) -> Tensor:
    """RandomResizedCrop's box (B, 4): area uniform, aspect ratio log-uniform, the first of ten attempts that fits.

    If none fits, the largest centred box within the aspect ratios, as torchvision does. Whole pixels.
    """
    full_height, full_width = source.float().expand(batch, 2).split(1, dim=1)  # (B, 1) each
    area = torch.empty(batch, _ATTEMPTS).uniform_(*view.crop_scale, generator=generator) * (full_height * full_width)
    low, high = (math.log(ratio) for ratio in view.crop_ratio)
    ratio = torch.empty(batch, _ATTEMPTS).uniform_(low, high, generator=generator).exp()
    width, height = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()  # (B, attempts)
    fits = (width > 0) & (width <= full_width) & (height > 0) & (height <= full_height)
    first = fits.int().argmax(dim=1, keepdim=True)  # the first True
    fitted = fits.any(dim=1, keepdim=True)
    widest = full_width.minimum((full_height * view.crop_ratio[1]).round())
    highest = full_height.minimum((full_width / view.crop_ratio[0]).round())
    width, height = width.gather(1, first).where(fitted, widest), height.gather(1, first).where(fitted, highest)
    room = torch.cat([full_height - height, full_width - width], dim=1)  # (B, 2)
    corner = torch.rand(batch, 2, generator=generator).where(fitted, 0.5)
    return torch.cat([(corner * (room + 1)).floor().minimum(room), height, width], dim=1)


# ------------------------------------------------------------------------------------------------
# Application
# ------------------------------------------------------------------------------------------------


def augment(
    images: Tensor,
    view: View,
    image_size: int,
    generator: torch.Generator,
    rows: slice = slice(None),
    total: int | None = None,
) -> Tensor:
    """One random view of every image, normalised with ImageNet's mean and standard deviation.

    Args:
        images: (B, 3, T, T) uint8.
        view: what is drawn and how strongly.
        image_size: side of the view S, px.
        generator: on the CPU; makes all draws.
        rows: which rows of a batch of ``total`` these images are; draws are made for all, so that an image gets the
            same view whatever part of the batch is computed.
        total: images of the whole batch; B by default.

    Returns:
        (B, 3, S, S) float32 on the images' device.
    """
    total = len(images) if total is None else total
    draws = draw(view, total, images.shape[-1], image_size, generator)
    return render(images, draws.part(rows), view, image_size)


def render(images: Tensor, draws: Draws, view: View, image_size: int) -> Tensor:
    """Carry out the draws of a view: (B, 3, T, T) uint8 -> (B, 3, S, S) float32, normalised."""
    views = apply(images, draws, image_size, view.interpolation)
    if view.rand_augment is not None:
        views = _rand_augment(views, view.rand_augment, draws.rand_augment.tolist())
    return normalise(views)


def _rand_augment(images: Tensor, settings: RandAugment, seeds: list[int]) -> Tensor:
    """torchvision's RandAugment, image by image, (B, 3, S, S) in 0 … 1; hidden corners become mid-grey."""
    from torchvision.transforms import v2  # only a few recipes wait for it

    transform = v2.RandAugment(settings.operations, settings.magnitude, fill=0.5)
    changed = []
    with torch.random.fork_rng(devices=[]):  # it draws from the global generator
        for image, seed in zip(images, seeds, strict=True):
            torch.manual_seed(seed)
            changed.append(transform(image))
    return torch.stack(changed)


def apply(images: Tensor, draws: Draws, image_size: int, interpolation: str = "bilinear") -> Tensor:
    """Carry out ``draws``: (B, 3, T, T) uint8 -> (B, 3, S, S) float32 in 0 … 1, not yet normalised."""
    box, flip, jitter, sigma = (
        tensor.to(images.device, non_blocking=True) for tensor in (draws.box, draws.flip, draws.jitter, draws.sigma)
    )
    images = crop_resize_flip(images, box, flip, image_size, interpolation)
    for part in draws.jitter_order:
        change, neutral = _JITTER[part]
        images = _where(draws.jitter[:, part] != neutral, images, change, jitter[:, part])
    images = _where(draws.grayscale, images, lambda chosen: _luma(chosen).repeat(1, 3, 1, 1))
    images = _where(draws.sigma > 0, images, gaussian_blur, sigma)
    return _where(draws.solarize, images, _solarize)


def _where(chosen: Tensor, images: Tensor, change: Callable[..., Tensor], *parameters: Tensor) -> Tensor:
    """Apply ``change`` to the chosen images only, in place.

    ``chosen`` (B,) is on the CPU, so the device is never waited for; ``parameters`` (B,) are on the device.
    """
    rows = chosen.nonzero().squeeze(1)
    if len(rows) == len(images):
        return change(images, *parameters)
    if len(rows):
        rows = rows.to(images.device, non_blocking=True)
        changed = change(images.index_select(0, rows), *(parameter.index_select(0, rows) for parameter in parameters))
        images.index_copy_(0, rows, changed)
    return images


# ------------------------------------------------------------------------------------------------
# Separable linear maps: crop with resize, blur
# ------------------------------------------------------------------------------------------------


def _separable(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(B, 3, T, T) images, (B, S, T) matrices for rows and columns -> (B, 3, S, S)."""
    return rows.unsqueeze(1) @ (images @ columns.transpose(1, 2).unsqueeze(1))


def crop_resize_flip(
    images: Tensor, box: Tensor, flip: Tensor, image_size: int, interpolation: str = "bilinear"
) -> Tensor:
    """Cut a box out of every image, resize it with antialiasing and mirror it where asked.

    Args:
        images: (B, 3, T, T) uint8.
        box: (B, 4) top, left, height, width, px.
        flip: (B,) bool.
        image_size: S, px.
        interpolation: ``bilinear`` or ``bicubic``, as in Pillow and torchvision's ``antialias=True``.

    Returns:
        (B, 3, S, S) float32 in 0 … 1.
    """
    size = images.shape[-1]
    top, left, height, width = box.unbind(1)
    rows = _resize_matrix(top, height, size, image_size, interpolation)  # (B, S, T)
    columns = _resize_matrix(left, width, size, image_size, interpolation)
    columns = torch.where(flip.view(-1, 1, 1), columns.flip(1), columns)
    return _separable(images.float(), rows / 255, columns).clamp_(0, 1)


def _resize_matrix(start: Tensor, length: Tensor, source: int, target: int, interpolation: str) -> Tensor:
    """(B, S, T) weights that resample [start, start + length) of T pixels to S pixels; each row sums to 1."""
    scale = (length / target).view(-1, 1, 1)  # source pixels per target pixel
    output = torch.arange(target, device=start.device).view(1, -1, 1)
    pixel = torch.arange(source, device=start.device).view(1, 1, -1)
    first = start.view(-1, 1, 1)
    centre = first + (output + 0.5) * scale  # (B, S, 1); pixel i covers i … i+1
    distance = ((pixel + 0.5 - centre) / scale.clamp(min=1)).abs()  # widened when shrinking: antialiasing
    weights = _cubic(distance) if interpolation == "bicubic" else (1 - distance).clamp_(min=0)
    weights = weights * ((pixel >= first) & (pixel < first + length.view(-1, 1, 1)))  # nothing from outside the box
    return weights / weights.sum(dim=2, keepdim=True)


def _cubic(x: Tensor, a: float = -0.5) -> Tensor:
    """Keys' cubic convolution kernel with Pillow's parameter, of a distance x >= 0."""
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return torch.where(x < 1, near, far * (x < 2))


def gaussian_blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur with a standard deviation per image: (B, 3, S, S), (B,) px > 0 -> (B, 3, S, S).

    Edges are mirrored, as torchvision does; the kernel ends at four standard deviations.
    """
    size = images.shape[-1]
    distance = torch.arange(2 * size - 1, device=images.device)
    sigma = sigma.view(-1, 1)
    weight = torch.exp(-0.5 * (distance / sigma).clamp(max=8) ** 2)  # (B, 2S-1); the clamp avoids slow denormals
    weight = weight * (distance <= (_BLUR_RADIUS * sigma).ceil())
    pixel = torch.arange(size, device=images.device)
    centre = pixel.view(-1, 1)
    kernel = weight[:, (centre - pixel).abs()]  # (B, S, S): from a pixel to a centre, then from its two reflections
    kernel += weight[:, centre + pixel] * (pixel > 0)
    kernel += weight[:, 2 * (size - 1) - centre - pixel] * (pixel < size - 1)
    kernel /= kernel.sum(dim=2, keepdim=True)
    return _separable(images, kernel, kernel)


# ------------------------------------------------------------------------------------------------
# Colour. Images (B, 3, S, S) in 0 … 1, one factor per image (B,)
# ------------------------------------------------------------------------------------------------


def _luma(images: Tensor) -> Tensor:
    """(B, 3, S, S) -> (B, 1, S, S)."""
    red, green, blue = images.split(1, dim=1)
    return _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue


def _brightness(images: Tensor, factor: Tensor) -> Tensor:
    return (images * factor.view(-1, 1, 1, 1)).clamp_(0, 1)


def _contrast(images: Tensor, factor: Tensor) -> Tensor:
    mean = _luma(images).mean(dim=(2, 3), keepdim=True)
    return torch.lerp(mean, images, factor.view(-1, 1, 1, 1)).clamp_(0, 1)


def _saturation(images: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(_luma(images), images, factor.view(-1, 1, 1, 1)).clamp_(0, 1)


def _hue(images: Tensor, shift: Tensor) -> Tensor:
    """Rotate the hue by ``shift`` turns, through HSV."""
    red, green, blue = images.unbind(1)  # each (B, S, S)
    value = images.amax(dim=1)
    chroma = value - images.amin(dim=1)
    divisor = chroma.where(chroma > 0, 1.0)
    hue = torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor)
    hue = torch.where(value == red, (green - blue) / divisor, hue) + 6 * shift.view(-1, 1, 1)  # in sixths of a turn
    offsets = torch.tensor([5.0, 3.0, 1.0], device=images.device).view(1, 3, 1, 1)
    sector = (hue.unsqueeze(1) + offsets) % 6  # (B, 3, S, S)
    return value.unsqueeze(1) - chroma.unsqueeze(1) * torch.minimum(sector, 4 - sector).clamp_(0, 1)


def _solarize(images: Tensor) -> Tensor:
    return torch.where(images >= 128 / 255, 1 - images, images)


_JITTER = ((_brightness, 1.0), (_contrast, 1.0), (_saturation, 1.0), (_hue, 0.0))  # with the neutral factor
