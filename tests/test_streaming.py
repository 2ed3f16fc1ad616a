"""Streaming metrics: the values of the stored maps, for any batching, without storing them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cl_vs_mim.analysis.metrics import Measurement
from cl_vs_mim.analysis.streaming import BlockStream, stream
from cl_vs_mim.data.images import normalise
from cl_vs_mim.encoder.model import BlockTrace, EncoderSpec, build_encoder
from cl_vs_mim.metrics.attention import (
    attention_distance,
    attention_entropy,
    normalized_mutual_information,
    query_similarity,
)

SPEC = EncoderSpec("beit", 32, 8, 24, 3, 2, positions="relative", layer_scale=0.1)


def attention_streams() -> list[BlockStream]:
    measurement = Measurement(SPEC)
    return [measurement.streams[name] for name in measurement.of_table("attention")]


def pixels(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def run(images: torch.Tensor, batch_size: int) -> dict[str, np.ndarray]:
    encoder, metrics = build_encoder(SPEC, 0).eval(), attention_streams()
    done = list(stream(encoder, images.split(batch_size), metrics))
    assert sum(done) == len(images)
    return {metric.name: metric.result() for metric in metrics}


def test_streamed_values_are_those_of_stored_maps_image_by_image():
    images = pixels(5)
    found = run(images, batch_size=2)
    encoder = build_encoder(SPEC, 0).eval()
    functions = {
        "attention_distance": lambda maps: attention_distance(maps, 8),
        "nmi": normalized_mutual_information,
        "attention_entropy": attention_entropy,
        "query_similarity": query_similarity,
    }
    assert set(found) == set(functions)
    for name, function in functions.items():
        assert found[name].shape == (5, 3, 2) and found[name].dtype == np.float64
        for image in range(5):
            maps = encoder.attentions(normalise(images[[image]]))
            wanted = torch.cat([function(block) for block in maps])  # (L, H)
            np.testing.assert_allclose(found[name][image], wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 5, 8])
def test_batching_does_not_matter(batch_size):
    reference = run(pixels(5), batch_size=2)
    for name, values in run(pixels(5), batch_size).items():
        np.testing.assert_allclose(values, reference[name], rtol=1e-4, atol=1e-6)


def test_only_scalars_are_kept_and_in_one_piece_per_block():
    metrics = attention_streams()
    list(stream(build_encoder(SPEC, 0).eval(), pixels(9).split(2), metrics))
    for metric in metrics:
        assert len(metric._slots) == SPEC.depth
        for slot in metric._slots:
            held = slot._buffer.untyped_storage().nbytes()
            assert 9 * SPEC.heads * 4 <= held < 2 * 9 * SPEC.heads * 4  # float32


def test_a_value_that_is_not_finite_is_located():
    encoder = build_encoder(SPEC, 0).eval()
    encoder.backbone.blocks[1].attn.qkv.weight.data[:] = torch.nan
    seen = []
    with pytest.raises(FloatingPointError) as caught:
        for count in stream(encoder, pixels(4).split(2), attention_streams()):
            seen.append(count)
    assert caught.value.args == ("attention_distance", 0, 2.0) and seen == []


def test_results_need_equal_numbers_of_images_in_every_block():
    metric = BlockStream("attention_distance", lambda trace: attention_distance(trace.attention, 8))
    with pytest.raises(ValueError, match="no batch"):
        metric.result()
    maps = torch.full((2, 1, 5, 5), 0.2)
    for block, attention in ((0, maps), (1, maps[:1])):
        metric.update(BlockTrace(block, maps, attention, maps, maps, maps))
    with pytest.raises(ValueError, match=r"\[2, 1\] images"):
        metric.result()
