"""Images of others: what is no image is refused in one line, what is one gets the right pixels, and no bomb opens."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.pictures import FORMATS, open_rgb, require_eight_bits, upright_size
from cl_vs_mim.core.untrusted import Limits, read_bytes, set_limits
from cl_vs_mim.data import images
from cl_vs_mim.data.ade20k import TRAINING, open_mask, read_classes
from cl_vs_mim.data.images import decode, decode_many, index_image_folder


@pytest.fixture(autouse=True)
def default_limits():
    yield
    set_limits(Limits())


def within(seconds: float, work: Callable[[], object]) -> BaseException | None:
    """What ``work`` raises; it must end in time."""
    raised: list[BaseException | None] = []

    def run() -> None:
        try:
            work()
            raised.append(None)
        except BaseException as error:
            raised.append(error)

    threading.Thread(target=run, daemon=True).start()
    deadline = time.monotonic() + seconds
    while not raised and time.monotonic() < deadline:
        time.sleep(0.01)
    assert raised, f"not done within {seconds} s"
    return raised[0]


def refused(path: Path, words: str, work: Callable[[Path], object] = open_rgb) -> None:
    error = within(10, lambda: work(path))
    assert isinstance(error, UserError), repr(error)
    assert words in str(error) and path.name in str(error) and "\n" not in str(error)


# ------------------------------------------------------------------------------------------------
# Kinds of file
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("work", [open_rgb, upright_size, require_eight_bits, open_mask, lambda path: decode(path, 8)])
def test_pipes_devices_sockets_and_folders_are_no_images(tmp_path: Path, work) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    refused(tmp_path / "pipe.jpg", "is a named pipe, not a file", work)
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    refused(tmp_path / "zero.jpg", "is a device, not a file", work)
    (tmp_path / "folder.jpg").mkdir()
    refused(tmp_path / "folder.jpg", "is a folder, not a file", work)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "s.jpg"))
        refused(tmp_path / "s.jpg", "is a socket, not a file", work)
    refused(tmp_path / "gone.jpg", "it does not exist", work)


def test_reading_costs_the_file_and_not_the_limit(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"abc")
    tracemalloc.start()
    assert read_bytes(tmp_path / "small", "annotation") == b"abc"
    assert tracemalloc.get_traced_memory()[1] < 3_000_000
    tracemalloc.stop()
    assert read_bytes(Path("/proc/self/status"), "yaml").startswith(b"Name:")


def test_a_file_larger_than_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    Image.new("RGB", (4, 4)).save(path)
    os.truncate(path, 300_000_000)  # a hole, which costs no disk
    refused(path, "raise limits.image_megabytes in the study")
    set_limits(Limits(image_megabytes=400))
    assert open_rgb(path).size == (4, 4)


# ------------------------------------------------------------------------------------------------
# Bombs
# ------------------------------------------------------------------------------------------------


def png(path: Path, width: int, height: int) -> Path:
    """A grey PNG of any size in a few bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    squeezed = zlib.compressobj(9)
    row = bytes(1 + width)
    pixels = b"".join(squeezed.compress(row * 64) for _ in range(-(-height // 64))) + squeezed.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    return path


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("work", [open_rgb, upright_size, open_mask])
def test_a_decompression_bomb_is_refused_and_not_warned_of(tmp_path: Path, work) -> None:
    refused(png(tmp_path / "bomb.png", 20_000, 5_000), "20000x5000 px, more than 89 megapixels", work)
    refused(png(tmp_path / "larger.png", 20_000, 20_000), "more than 89 megapixels", work)


def test_a_study_may_raise_the_limit(tmp_path: Path) -> None:
    set_limits(Limits(image_megapixels=101))
    assert open_rgb(png(tmp_path / "large.png", 20_000, 5_000)).size == (20_000, 5_000)


@pytest.mark.parametrize("size", [(1, 1_000_000), (1_000_000, 1)])
def test_a_thread_of_pixels_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    """Its shorter side brought to 224 px, it would have fifty thousand megapixels."""
    refused(
        png(tmp_path / "thread.png", *size), "one side more than 100 times the other", lambda path: decode(path, 224)
    )


def test_a_jpeg_of_very_many_scans_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scans.jpg"
    Image.new("L", (64, 64)).save(path, progressive=True)
    content = path.read_bytes()
    start = content.index(b"\xff\xda")
    path.write_bytes(content[:start] + content[start:-2] * 200 + content[-2:])
    refused(path, "scans")


# ------------------------------------------------------------------------------------------------
# Formats
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["EPS", "GIF", "AVIF", "JPEG2000", "PDF", "TGA", "PCX", "ICO", "MSP", "XBM"])
def test_other_formats_under_a_known_suffix_reach_no_decoder(tmp_path: Path, form: str) -> None:
    path = tmp_path / "picture.jpg"
    Image.new("1" if form in ("MSP", "XBM") else "RGB", (32, 32)).save(path, form)
    refused(path, f"it is none of {', '.join(FORMATS)}")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP"])
def test_the_formats_of_data_sets_are_read_whatever_the_suffix(tmp_path: Path, form: str) -> None:
    path = tmp_path / "picture.jpg"
    Image.new("RGB", (32, 30), (200, 200, 200)).save(path, form)
    assert np.abs(np.asarray(open_rgb(path)).astype(int) - 200).max() <= 1


MODES = {
    "JPEG": ["L", "RGB", "CMYK", "YCbCr"],
    "PNG": ["1", "L", "LA", "P", "RGB", "RGBA"],
    "TIFF": ["P", "RGB", "CMYK"],
}


@pytest.mark.parametrize(("form", "mode"), [(form, mode) for form, modes in MODES.items() for mode in modes])
def test_ordinary_pixels_are_pillow_s_bit_for_bit(tmp_path: Path, form: str, mode: str) -> None:
    path = tmp_path / "x"
    noise = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(path, form)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(np.asarray(open_rgb(path)), expected)


def test_the_images_of_the_kit_decode_as_before(root: Path) -> None:
    for path in sorted((root / "data" / "kit" / "backgrounds").glob("*"))[:20]:
        with Image.open(path) as image:
            assert np.array_equal(np.asarray(open_rgb(path)), np.asarray(image.convert("RGB"))), path


# ------------------------------------------------------------------------------------------------
# More than eight bits
# ------------------------------------------------------------------------------------------------

RAMP = np.linspace(0, 65535, 64 * 64).round().astype(np.uint16).reshape(64, 64)


@pytest.mark.parametrize("suffix", ["png", "tif", "ppm"])
def test_sixteen_bits_of_grey_become_eight(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"grey.{suffix}"
    if suffix == "ppm":
        path.write_bytes(b"P5 64 64 65535\n" + RAMP.astype(">u2").tobytes())
    else:
        Image.fromarray(RAMP).save(path)
    pixels = np.asarray(open_rgb(path))
    assert np.array_equal(pixels[..., 0], (RAMP / 257).round()) and np.array_equal(pixels[..., 0], pixels[..., 2])
    assert pixels.mean() == pytest.approx(127.5, abs=0.1)
    refused(path, "16 bits", require_eight_bits)


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_pixels_of_no_known_range_are_refused_in_words(tmp_path: Path, kind) -> None:
    path = tmp_path / "deep.tif"
    Image.fromarray(RAMP.astype(kind)).save(path)
    for work in (open_rgb, upright_size, require_eight_bits):
        refused(path, "convert it to 8 bits a channel", work)


def test_sixteen_bits_in_which_zero_is_white_or_of_which_twelve_are_used_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "inverted.tif"
    Image.fromarray(RAMP).save(path, tiffinfo={262: 0})
    with Image.open(path) as image:
        assert image.tag_v2[262] == 0
    refused(path, "convert it to 8 bits a channel")


# ------------------------------------------------------------------------------------------------
# Orientation
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_its_exif_says(tmp_path: Path, suffix: str, orientation: int) -> None:
    from PIL import ImageOps

    pixels = np.zeros((24, 40, 3), dtype=np.uint8)
    pixels[:12, :20], pixels[12:, 20:] = (255, 0, 0), (0, 255, 0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{suffix}"
    Image.fromarray(pixels).save(path, exif=exif)
    with Image.open(path) as image:
        expected = ImageOps.exif_transpose(image).convert("RGB")
    assert expected.size == ((40, 24) if orientation < 5 else (24, 40))
    assert np.array_equal(np.asarray(open_rgb(path)), np.asarray(expected))
    assert upright_size(path) == expected.size


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_turns_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    Image.new("RGB", (8, 6), (9, 9, 9)).save(path, exif=b"Exif\0\0MM\0*\0\0\0\xff\xff\xff")
    assert open_rgb(path).size == (8, 6)


# ------------------------------------------------------------------------------------------------
# Folders
# ------------------------------------------------------------------------------------------------


def test_the_root_of_an_imagefolder_may_be_no_file(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("")
    with pytest.raises(UserError, match=r"root is not an ImageFolder \(root/class/image.jpg\): Not a directory"):
        index_image_folder(tmp_path / "root")


def test_enlarged_images_are_spoken_of_once(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "a").mkdir()
    for number, side in enumerate((300, 48, 60)):
        Image.new("RGB", (side, 80 + side)).save(tmp_path / "a" / f"{number}.png")
    index = index_image_folder(tmp_path)
    images._said.clear()
    decode_many(index, range(3), 224)
    decode_many(index, range(3), 224)
    said = capsys.readouterr().err
    assert said.count("warning: ") == 1
    assert "smaller than the 224 px they are shown at (2 of the first 3; a/1.png has 48 px" in said
    decode_many(index, range(3), 48)
    assert capsys.readouterr().err == ""


# ------------------------------------------------------------------------------------------------
# ADE20K
# ------------------------------------------------------------------------------------------------


def test_tables_of_classes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    for content, words in (
        (b"\xff\xfe\0\0", "it is not UTF-8 text"),
        (b"Idx\tName\n1\t" + b"x" * 200_000, "field larger than field limit"),
        (b"", "Idx should count"),
        (b"Idx\tName\n1\n", "columns Idx and Name"),
    ):
        (tmp_path / "objectInfo.txt").write_bytes(content)
        if content:
            refused(tmp_path / "objectInfo.txt", words, lambda path: read_classes(path.parent))
    (tmp_path / "objectInfo.txt").unlink()
    (tmp_path / "objectInfo.txt").mkdir()
    refused(tmp_path / "objectInfo.txt", "is a folder, not a file", lambda path: read_classes(path.parent))


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "struck"])
@pytest.mark.parametrize("work", [open_rgb, open_mask, upright_size])
def test_damaged_files_are_one_line(tmp_path: Path, damage: str, work) -> None:
    path = tmp_path / f"{TRAINING}.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 9, (64, 64), dtype=np.uint8)).save(path)
    content = path.read_bytes()
    path.write_bytes(
        {"cut": content[:20], "garbage": os.urandom(500), "empty": b"", "struck": content[:29] + bytes(500)}[damage]
    )
    refused(path, "restore it", work)
