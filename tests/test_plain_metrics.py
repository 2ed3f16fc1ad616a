"""Every streamed value against ``bench/plain_metrics.py``: float64 NumPy, written from the definitions alone."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from cl_vs_mim.analysis.metrics import Measurement
from cl_vs_mim.analysis.streaming import stream
from cl_vs_mim.encoder.model import EncoderSpec, build_encoder

SPECS = {
    "vit": EncoderSpec("vit", 48, 8, 24, 3, 2),
    "beit": EncoderSpec("beit", 40, 8, 24, 2, 3, positions="relative", layer_scale=0.1),
    "wide": EncoderSpec("vit", 24, 8, 32, 2, 4),  # more channels than patches
    "one_head": EncoderSpec("vit", 32, 8, 16, 1, 1, positions="learned"),
}


@pytest.fixture(scope="module")
def plain(root):
    spec = importlib.util.spec_from_file_location("plain_metrics", root / "bench" / "plain_metrics.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pixels(count: int, size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_plain_way_finds_the_same(plain, name, batch_size):
    spec = SPECS[name]
    encoder, images = build_encoder(spec, 3).eval(), pixels(4, spec.image_size)
    metrics = Measurement(spec)
    assert sum(stream(encoder, images.split(batch_size), list(metrics))) == len(images)
    streamed = {metric.name: metric.result() for metric in metrics}
    values = plain.reduce(plain.store(encoder, images.split(2), len(images)), spec.patch_size)
    assert ("head_similarity" in values) == (spec.heads > 1)
    for metric, expected in values.items():
        assert streamed[metric].shape == expected.shape, metric
        np.testing.assert_allclose(streamed[metric], expected, rtol=1e-4, atol=1e-5, err_msg=metric)
    assert max(plain.differences(values, streamed).values()) < 1e-4


def test_ways_that_measure_different_things_are_not_compared(plain):
    with pytest.raises(ValueError, match=r"\['b'\]"):
        plain.differences({"a": np.zeros(2)}, {"a": np.zeros(2), "b": np.zeros(2)})
    assert plain.differences({"a": np.array([1.0, 3.0])}, {"a": np.array([1.0, 1.0])}) == {"a": 0.5}
