"""Images of others through the gate: only the formats that data sets come in, bounded in pixels, upright, in 8 bits.

The pixels of ordinary 8-bit files are Pillow's, unchanged. 16-bit grey is brought to 8 bits; what has no range that
could be brought to 8 bits (whole numbers of 32 bits, floating point) is refused.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.untrusted import limits, parsing, read_bytes

FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP")  # of the suffixes that an ImageFolder may hold

_EIGHT_BITS = {"1", "L", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LA", "PA", "La", "RGBa"}
_SCANS = 100  # of one JPEG; a progressive one has about ten, and each further one costs a pass over all pixels
_ORIENTATION, _BITS, _PHOTOMETRIC = 0x0112, 258, 262  # tags of EXIF and TIFF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


_SIDEWAYS = [_TURNS[orientation] for orientation in (5, 6, 7, 8)]

# What Pillow only warns of is refused here, or does no harm.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", message="Corrupt EXIF data", category=UserWarning)


@contextmanager
def opened(
    path: Path,
    what: str = "image",
    remedy: str = "restore it or rebuild its data set",
    content: bytes | None = None,
) -> Iterator[Image.Image]:
    """An image whose header is read and found harmless; its pixels are decoded when they are asked for.

    Args:
        path: the file.
        what: how it is called in an error.
        remedy: what to do about it.
        content: of the file, where it was read already.

    Raises:
        UserError: it is missing, no ordinary file, too large, of another format, or damaged, be it seen only while
            the pixels are decoded inside the block.
    """
    with parsing(path, what, remedy):
        content = read_bytes(path, "image") if content is None else content
        Image.MAX_IMAGE_PIXELS = limits().image_megapixels * 1_000_000  # also for libraries that open images themselves
        try:
            image = Image.open(io.BytesIO(content), formats=FORMATS)
        except Image.UnidentifiedImageError as error:
            raise ValueError(f"it is none of {', '.join(FORMATS)}, or damaged") from error
        except Image.DecompressionBombError as error:
            raise _too_many_pixels(path, "very many") from error
        with image:
            _require_bounded(path, image.size)
            if image.format in ("JPEG", "MPO") and content.count(b"\xff\xda") > _SCANS:
                raise ValueError(f"more than {_SCANS} scans; it is made to keep a decoder busy")
            yield image


def _require_bounded(path: Path, size: tuple[int, int]) -> None:
    width, height = size
    most = limits()
    if min(size) < 1:
        raise ValueError(f"{width}x{height} px")
    if width * height > most.image_megapixels * 1_000_000:
        raise _too_many_pixels(path, f"{width}x{height}")
    if max(size) > most.image_ratio * min(size):
        raise UserError(
            f"image {path} has {width}x{height} px, one side more than {most.image_ratio} times the other; leave it "
            "out, or raise limits.image_ratio in the study"
        )


def _too_many_pixels(path: Path, size: str) -> UserError:
    return UserError(
        f"image {path} has {size} px, more than {limits().image_megapixels} megapixels, as a decompression bomb has; "
        "if it is as it should be, raise limits.image_megapixels in the study"
    )


def open_rgb(path: Path) -> Image.Image:
    """A whole image as RGB in 8 bits, turned as its EXIF says.

    Raises:
        UserError: as :func:`opened`; or its pixels are of a kind that has no place in 0 … 255.
    """
    with opened(path) as image:
        _require_range(path, image)
        turn = _turn(image)
        if image.mode in _EIGHT_BITS:
            upright = image.convert("RGB")
        else:
            wide = np.asarray(image).astype(np.uint32)
            upright = Image.fromarray(((wide + 128) // 257).astype(np.uint8)).convert("RGB")  # 65535 is white
        return upright if turn is None else upright.transpose(turn)


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height of what :func:`open_rgb` gives, from the header alone; errors as of :func:`open_rgb`."""
    with opened(path) as image:
        _require_range(path, image)
        turn = _turn(image)
        return (image.height, image.width) if turn in _SIDEWAYS else image.size


def require_eight_bits(path: Path) -> None:
    """Refuse what a library that opens images itself would decode to wrong pixels, or not at all.

    Raises:
        UserError: as :func:`open_rgb`; or the image has more than 8 bits.
    """
    with opened(path) as image:
        _require_range(path, image)
        if image.mode not in _EIGHT_BITS:
            raise UserError(f"image {path} has 16 bits a pixel; convert it to 8")


def _require_range(path: Path, image: Image.Image) -> None:
    """Only pixels whose black and white are known."""
    if image.mode in _EIGHT_BITS or (image.mode == "I" and image.format == "PPM"):  # Pillow stretches these to 16 bits
        return
    if image.mode.startswith("I;16"):
        tags = getattr(image, "tag_v2", {})
        if tags.get(_BITS, (16,)) == (16,) and tags.get(_PHOTOMETRIC, 1) == 1:
            return
    raise UserError(
        f"image {path} has pixels of mode {image.mode} (32-bit, floating point or of an unusual range), of which no "
        "file says what is black and what is white; convert it to 8 bits a channel"
    )


def _turn(image: Image.Image) -> Image.Transpose | None:
    """How to turn an image upright. Pillow does it itself for TIFF; damaged EXIF turns nothing."""
    if image.format == "TIFF":
        return None
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # the pixels are whole
        return None
