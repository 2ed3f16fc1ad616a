"""Composed data are the same bytes on every processor: with instruction sets taken away, and as the hash here says."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from cl_vs_mim.data import exact
from cl_vs_mim.data.angles import cos_sin
from cl_vs_mim.data.depths import depths

ROOT = Path(__file__).resolve().parent.parent
COMPOSED = "04ab3334af7dcc014fad712ab0b6ceea32e320f8a884e4293ace60677bb8d759"
TAKEN_AWAY = {
    "OPENCV_CPU_DISABLE": "AVX512-SKX,AVX2,FMA3,FP16,AVX,SSE4.2,SSE4.1",
    "OPENCV_IPP": "disabled",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 X86_V3 AVX512_ICL AVX512_SPR",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX2,-FMA,-FMA4,-AVX",
    "OPENBLAS_CORETYPE": "Nehalem",
    "JSIMD_FORCENONE": "1",
}


def _run(environment: dict[str, str], *command: str) -> str:
    return subprocess.run(
        [sys.executable, *command],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    ).stdout.strip()


@pytest.mark.parametrize("environment", [{}, TAKEN_AWAY], ids=["this processor", "without its instruction sets"])
def test_composed_pictures_are_the_same_bytes_everywhere(environment: dict[str, str]) -> None:
    """If it fails after an edit of the composer: data composed before have another hash than those from now on."""
    assert _run(environment, str(ROOT / "tests" / "composed_digest.py"), str(ROOT)) == COMPOSED


def test_instruction_sets_are_taken_away_indeed() -> None:
    """OpenCV says nothing of a name that it does not know: what is off has a question mark."""
    if "AVX2" not in cv2.getCPUFeaturesLine():
        pytest.skip("this OpenCV has no code for AVX2 that could be switched off")
    line = _run(TAKEN_AWAY, "-c", "import cv2; print(cv2.getCPUFeaturesLine())")
    assert "*AVX2?" in line and "*AVX512-SKX?" in line
    numpy = "import numpy as np; print(np.exp(np.linspace(-3, 3, 10001, dtype=np.float32)).tobytes().hex())"
    assert _run(TAKEN_AWAY, "-c", numpy) != _run({}, "-c", numpy) or "*AVX2?" in cv2.getCPUFeaturesLine()


def _picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)


@pytest.mark.parametrize(("sigma", "length"), [(0.5, 3), (0.4, 0), (0.5, 0), (0.9, 0), (3.0, 0)])
@pytest.mark.parametrize("shape", [(40, 33), (40, 33, 3)])
def test_blur_is_that_of_opencv(shape: tuple[int, ...], sigma: float, length: int) -> None:
    picture = _picture(*shape)
    assert np.allclose(
        exact.blur(picture, sigma, length), cv2.GaussianBlur(picture, (length, length), sigma), atol=1e-3
    )


@pytest.mark.parametrize(
    "matrix", [[[1, 0.3, -8], [0, 0.16, 20]], [[1, 0, 0], [0, -0.55, 40]], [[1, 0, 2.5], [0, 1, 1]]]
)
def test_warp_is_that_of_opencv(matrix: list[list[float]]) -> None:
    picture = _picture(48, 48)
    assert np.allclose(
        exact.warp(picture, np.array(matrix)), cv2.warpAffine(picture, np.array(matrix), (48, 48)), atol=1e-3
    )


@pytest.mark.parametrize(("old", "new"), [(24, 64), (60, 64), (72, 64), (40, 97)])
def test_enlarging_is_that_of_opencv(old: int, new: int) -> None:
    picture = _picture(old, old, 3)
    reference = cv2.resize(picture, (new, new), interpolation=cv2.INTER_CUBIC)
    assert np.allclose(exact.enlarge(picture, new), reference, atol=1e-3)


def test_colours_are_those_of_opencv() -> None:
    picture, matrix = _picture(9, 11, 3), np.random.default_rng(1).normal(size=(3, 4))
    assert np.allclose(exact.colours(picture, matrix), cv2.transform(picture, matrix), atol=1e-3)
    assert np.allclose(exact.weighted(picture, matrix[0, :3].astype(np.float32)), picture @ matrix[0, :3], atol=1e-3)
    mean, spread = exact.mean_and_spread(picture)
    assert np.allclose(mean, picture.mean((0, 1))) and np.allclose(spread, picture.std((0, 1)))


def test_depths_are_distances() -> None:
    mask = np.zeros((9, 9), np.uint8)
    mask[1:8, 1:8] = 1
    assert depths(mask)[4, 4] == pytest.approx(4 * 0.955, rel=1e-6)
    assert depths(mask)[0].tolist() == [0] * 9


def test_functions_are_those_of_the_library() -> None:
    values = np.random.default_rng(0).uniform(-9, 9, 500)
    for angle in values.tolist():
        assert cos_sin(angle) == pytest.approx((math.cos(angle), math.sin(angle)), abs=2e-16)
    assert np.allclose(exact.exp(values), np.exp(values), rtol=4e-15)
    assert np.allclose(exact.log(np.abs(values)), np.log(np.abs(values)), rtol=0, atol=4e-15)
    assert exact.power(2.0, 0.5) == pytest.approx(math.sqrt(2), rel=1e-15)
    assert np.allclose(exact.exp32(values.astype(np.float32)), np.exp(values.astype(np.float32)), rtol=4e-7)


def test_a_fused_product_is_rounded_once() -> None:
    one, other, added = np.random.default_rng(0).normal(size=(3, 300)).astype(np.float32)
    for result, a, b, c in zip(exact.fused(one, other, added), one, other, added, strict=True):
        truth = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
        below, above = np.nextafter(result, np.float32(-np.inf)), np.nextafter(result, np.float32(np.inf))
        assert abs(Fraction(float(result)) - truth) <= min(
            abs(Fraction(float(side)) - truth) for side in (below, above)
        )
