"""Labels by kind, and the features that probes are fitted on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.data.images import index_image_folder, normalise
from cl_vs_mim.data.labels import image_labels
from cl_vs_mim.encoder.model import EncoderSpec, build_encoder
from cl_vs_mim.encoder.pooling import pool
from cl_vs_mim.transfer.linear_probe import features as module
from cl_vs_mim.transfer.linear_probe.features import (
    FeatureOptions,
    depth_features,
    features_key,
    split_features,
)

SIZE = 32


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four identities of two categories, three images each; two held-out objects in folders of their categories."""
    generator, rows = np.random.default_rng(0), []
    folders = [(split, name) for split in ("train", "val") for name in ("cup", "dog", "fox", "jar")]
    categories = {"cup": "household", "jar": "household", "dog": "mammal", "fox": "mammal"}
    for split, folder in [*folders, ("heldout", "household"), ("heldout", "mammal")]:
        for number in range(3):
            path = tmp_path / "objects" / split / folder / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(path)
            name = f"{split}/{folder}/{number}.png"
            rows.append({"path": name, "class": folder, "category": categories.get(folder, folder)})
    table = pd.DataFrame(rows).sample(frac=1, random_state=0)  # the order of the table means nothing
    table.to_csv(tmp_path / "objects" / "images.csv", index=False)
    return tmp_path / "objects"


def spec(family: str, heads: int = 2, depth: int = 2) -> EncoderSpec:
    positions = {"positions": "relative", "layer_scale": 0.1} if family == "beit" else {"positions": "sincos"}
    shape = {"image_size": SIZE, "patch_size": 8, "width": 16, "depth": depth, "heads": heads}
    return EncoderSpec(family, **shape, **positions)


# ------------------------------------------------------------------------------------------------
# Labels
# ------------------------------------------------------------------------------------------------


def test_a_class_is_the_folder_and_a_category_a_column(data: Path) -> None:
    index = index_image_folder(data / "train")
    folders = image_labels(data, "train", index, "class")
    assert folders.classes == ("cup", "dog", "fox", "jar")
    assert folders.numbers.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    categories = image_labels(data, "train", index, "category")
    assert categories.classes == ("household", "mammal")
    assert categories.numbers.tolist() == [0] * 3 + [1] * 6 + [0] * 3


def test_other_splits_are_numbered_like_the_training_images(data: Path) -> None:
    index = index_image_folder(data / "heldout")
    known = ("bird", "household", "mammal")
    assert image_labels(data, "heldout", index, "category", known).numbers.tolist() == [1] * 3 + [2] * 3
    with pytest.raises(UserError, match=r"heldout: class household, mammal does not occur in the training images \(1"):
        image_labels(data, "heldout", index, "class", ["cup"])


def test_missing_categories_are_named(data: Path) -> None:
    index = index_image_folder(data / "train")
    table = pd.read_csv(data / "images.csv")
    table[table["path"] != "train/fox/1.png"].to_csv(data / "images.csv", index=False)
    with pytest.raises(UserError, match=r"images\.csv gives no category for image train/fox/1\.png"):
        image_labels(data, "train", index, "category")
    table.drop(columns="category").to_csv(data / "images.csv", index=False)
    with pytest.raises(UserError, match=r"images\.csv has no column 'category'; set analysis\.probe\.labels"):
        image_labels(data, "train", index, "category")
    (data / "images.csv").unlink()
    with pytest.raises(UserError, match=r"no images\.csv: an ordinary ImageFolder knows classes, but no category"):
        image_labels(data, "train", index, "category")
    assert len(image_labels(data, "train", index, "class").numbers) == 12  # as in ImageNet


# ------------------------------------------------------------------------------------------------
# Features
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 2, 3), (4, 10, 5)])
def test_pooling_takes_cls_or_the_mean_of_the_rest(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    tokens = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    values = tokens.float().numpy()
    assert np.array_equal(pool(tokens, "cls").float().numpy(), values[:, 0])
    wanted = [sum(values[image, 1:]) / (shape[1] - 1) for image in range(shape[0])]
    np.testing.assert_allclose(pool(tokens, "mean").float(), wanted, atol=1e-6 if dtype == torch.float32 else 2e-2)


def test_pooling_refuses_what_it_cannot_pool() -> None:
    with pytest.raises(ValueError, match="pooling is one of cls, mean, not 'max'"):
        pool(torch.zeros(1, 5, 2), "max")
    for shape in ((5, 2), (1, 1, 2)):
        with pytest.raises(ValueError, match="tokens"):
            pool(torch.zeros(shape), "mean")


@pytest.mark.parametrize("family", ["vit", "beit"])
@pytest.mark.parametrize(("batch", "heads"), [(1, 1), (3, 2)])
@pytest.mark.parametrize("final_norm", [False, True])
def test_features_are_the_embedding_and_every_blocks_output(
    family: str, batch: int, heads: int, final_norm: bool
) -> None:
    encoder = build_encoder(spec(family, heads), seed=3).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():  # away from the start, where blocks hardly change anything
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    pixels = torch.randint(0, 256, (batch, 3, SIZE, SIZE), dtype=torch.uint8)
    states = encoder.states(normalise(pixels))[::2]  # from parts, not fused
    if final_norm:
        states = [encoder.norm(state) for state in states]
    got = depth_features(encoder, pixels, final_norm)
    assert got.shape == (batch, 3, 2, 16)
    for depth, state in enumerate(states):
        np.testing.assert_allclose(got[:, depth, 0], state[:, 0].detach(), atol=2e-5)
        np.testing.assert_allclose(got[:, depth, 1], state[:, 1:].mean(1).detach(), atol=2e-5)


def test_a_split_keeps_its_order_whatever_the_batches(data: Path) -> None:
    encoder, index = build_encoder(spec("vit"), seed=0).eval(), index_image_folder(data / "train")
    whole = split_features(encoder, index, FeatureOptions(batch_size=12), "x", "test")
    parts = split_features(encoder, index, FeatureOptions(batch_size=5, workers=2), "x", "test")
    assert whole.shape == (12, 3, 2, 16)
    np.testing.assert_allclose(whole, parts, atol=1e-5)
    pixels = torch.from_numpy(np.array(Image.open(data / "train" / index.paths[7]))).permute(2, 0, 1)[None]
    np.testing.assert_allclose(whole[7:8], depth_features(encoder, pixels), atol=1e-5)


# ------------------------------------------------------------------------------------------------
# Files
# ------------------------------------------------------------------------------------------------


def test_what_does_not_fit_goes_to_a_file_that_is_used_again(data: Path, tmp_path: Path, monkeypatch) -> None:
    encoder, index = build_encoder(spec("vit"), seed=0).eval(), index_image_folder(data / "train")
    memory = split_features(encoder, index, FeatureOptions(), "x", "test")
    with pytest.raises(UserError, match=r"GiB, more than the 0\.0 GiB allowed; give a folder for them with --cache"):
        split_features(encoder, index, FeatureOptions(memory=memory.nbytes - 1), "x", "test")
    options = FeatureOptions(memory=memory.nbytes - 1, folder=tmp_path / "cache")
    assert torch.equal(split_features(encoder, index, options, "x", "test"), memory)
    monkeypatch.setattr(module, "depth_features", None)  # a second pass would fail
    assert torch.equal(split_features(encoder, index, options, "x", "test"), memory)
    (path,) = (tmp_path / "cache").iterdir()
    assert path.name == f"train-{features_key(encoder, index, options, 'x')}.npy"


def test_a_torn_file_is_never_used(data: Path, tmp_path: Path, monkeypatch) -> None:
    encoder, index = build_encoder(spec("vit"), seed=0).eval(), index_image_folder(data / "train")
    options = FeatureOptions(memory=0, folder=tmp_path / "cache", batch_size=5)
    calls = []

    def killed(*arguments: object) -> torch.Tensor:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return depth_features(*arguments)

    monkeypatch.setattr(module, "depth_features", killed)
    with pytest.raises(KeyboardInterrupt):
        split_features(encoder, index, options, "x", "test")
    assert list((tmp_path / "cache").iterdir()) == []
    again = split_features(encoder, index, options, "x", "test")
    assert torch.equal(again, split_features(encoder, index, FeatureOptions(batch_size=5), "x", "test"))


def test_the_name_of_a_file_changes_with_its_content(data: Path) -> None:
    encoder, index = build_encoder(spec("vit"), seed=0).eval(), index_image_folder(data / "train")
    keys = [
        features_key(encoder, index, FeatureOptions(), "x"),
        features_key(build_encoder(spec("vit"), seed=1).eval(), index, FeatureOptions(), "x"),
        features_key(encoder, index_image_folder(data / "val"), FeatureOptions(), "x"),
        features_key(encoder, index, FeatureOptions(final_norm=True), "x"),
        features_key(encoder, index, FeatureOptions(precision="float16"), "x"),
        features_key(encoder, index, FeatureOptions(crop_fraction=0.5), "x"),
        features_key(encoder, index, FeatureOptions(), "y"),
    ]
    assert len(set(keys)) == len(keys)
    assert features_key(encoder, index, FeatureOptions(batch_size=3, workers=4, memory=1), "x") == keys[0]


def test_a_feature_that_is_not_finite_is_named(data: Path) -> None:
    encoder, index = build_encoder(spec("vit"), seed=0).eval(), index_image_folder(data / "train")
    with torch.no_grad():
        encoder.backbone.blocks[1].mlp.fc2.bias += 1e5  # fits float32, not float16
    assert torch.isfinite(split_features(encoder, index, FeatureOptions(), "x", "test")).all()
    with pytest.raises(UserError, match=r"train/cup/0\.png are not finite at depth 2 in float16; set .* to float32"):
        split_features(encoder, index, FeatureOptions(precision="float16"), "x", "test")
    with torch.no_grad():
        encoder.backbone.blocks[0].mlp.fc2.bias += float("nan")
    with pytest.raises(UserError, match="at depth 1 in float32; the encoder has diverged"):
        split_features(encoder, index, FeatureOptions(), "x", "test")
