"""Many linear probes at once: the same as each alone, as torch's own optimiser, and roughly as scikit-learn's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from cl_vs_mim.config.analysis import Probe as ProbeSettings
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.randomness import generator_for
from cl_vs_mim.transfer.linear_probe.fitting import LinearMaps, fit_probes, predict, standardisation
from cl_vs_mim.transfer.linear_probe.selection import choose_rates, hold_back, selection_table, set_names

CPU = torch.device("cpu")


def settings(**more: object) -> ProbeSettings:
    given = {"labels": ["class"], "learning_rates": [0.5, 5.0], "epochs": 3, "batch_size": 32}
    return ProbeSettings.model_validate(given | more)


def clusters(count: int, classes: int, channels: int, sets: int, spread: float) -> tuple[Tensor, Tensor]:
    """(M, S, D) Gaussian clusters, their centres apart in every set, and (M,) labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % classes
    centres = torch.randn(classes, sets, channels, generator=generator)
    noise = torch.randn(count, sets, channels, generator=generator)
    return 3 + 2 * (centres[labels] + spread * noise), labels


def fit(features: Tensor, labels: dict[str, Tensor], options: ProbeSettings, positions: Tensor | None = None):
    positions = torch.arange(len(features)) if positions is None else positions
    standard = standardisation(features, positions)
    counts = {kind: int(numbers.max()) + 1 for kind, numbers in labels.items()}
    names = [f"set {number}" for number in range(features.shape[1])]
    return fit_probes(features, positions, labels, counts, options, standard, sets=names, device=CPU), standard


# ------------------------------------------------------------------------------------------------
# The fit
# ------------------------------------------------------------------------------------------------


def test_standardisation_is_that_of_the_images_trained_on() -> None:
    features, _ = clusters(700, 5, 4, 3, 0.5)
    positions = torch.arange(0, 700, 2)
    got = standardisation(features, positions)
    values = features.numpy()[::2].astype(np.float64)
    np.testing.assert_allclose(got.mean, values.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(got.scale, 1 / np.sqrt(values.var(axis=0) + 1e-6), rtol=1e-5)


@pytest.mark.parametrize(("momentum", "decay", "batch"), [(0.9, 0.0, 32), (0.0, 0.05, 32), (0.9, 0.01, 500)])
def test_one_probe_is_torchs_sgd_on_a_linear_layer(momentum: float, decay: float, batch: int) -> None:
    features, labels = clusters(100, 5, 6, 1, 1.0)
    options = settings(learning_rates=[0.7], momentum=momentum, weight_decay=decay, batch_size=batch, seed=4)
    maps, _ = fit(features, {"class": labels}, options)

    inputs = features[:, 0]
    inputs = (inputs - inputs.mean(0)) / (inputs.var(0, correction=0) + 1e-6).sqrt()
    layer = torch.nn.Linear(6, 5)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    size = min(batch, 100)
    steps, rate = 100 // size, 0.7 * size / 256
    optimizer = torch.optim.SGD(layer.parameters(), lr=rate, momentum=momentum, weight_decay=decay)
    for epoch in range(options.epochs):
        order = torch.randperm(100, generator=generator_for(4, "probe", epoch))
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * (epoch * steps + step) / (options.epochs * steps)))
            chosen = order[step * size : (step + 1) * size]
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(layer(inputs[chosen]), labels[chosen]).backward()
            optimizer.step()
    np.testing.assert_allclose(maps["class"].weight[0, 0], layer.weight.detach(), atol=1e-5)
    np.testing.assert_allclose(maps["class"].bias[0, 0], layer.bias.detach(), atol=1e-5)


def test_all_at_once_are_each_alone() -> None:
    features, labels = clusters(200, 6, 8, 4, 1.0)
    labels = {"class": labels, "category": labels // 2}
    options = settings(labels=["class", "category"], learning_rates=[0.1, 1.0, 10.0])
    together, _ = fit(features, labels, options)
    for place in range(4):
        for number, rate in enumerate(options.learning_rates):
            for kind in labels:
                alone = options.model_copy(update={"labels": [kind], "learning_rates": [rate]})
                maps, _ = fit(features[:, [place]], {kind: labels[kind]}, alone)
                for got, wanted in zip(together[kind], maps[kind], strict=True):
                    np.testing.assert_allclose(got[place, number], wanted[0, 0], atol=2e-5)


def test_the_order_of_depths_changes_nothing_and_a_repeat_not_a_bit() -> None:
    features, labels = clusters(200, 6, 8, 4, 1.0)
    order = [2, 0, 3, 1]
    first, again = (fit(features, {"class": labels}, settings())[0]["class"] for _ in range(2))
    moved = fit(features[:, order], {"class": labels}, settings())[0]["class"]
    for a, b, c in zip(first, again, moved, strict=True):
        assert torch.equal(a, b)
        np.testing.assert_allclose(c, a[order], atol=1e-6)
    other = fit(features, {"class": labels}, settings(seed=1))[0]["class"]
    assert not torch.equal(first.weight, other.weight)


def test_images_that_are_not_trained_on_do_not_count() -> None:
    features, labels = clusters(120, 4, 5, 2, 1.0)
    positions = torch.arange(0, 120, 3)
    maps, _ = fit(features, {"class": labels}, settings(), positions)
    spoilt = features.clone()
    spoilt[1::3] = 1e6
    other, _ = fit(spoilt, {"class": labels}, settings(), positions)
    assert torch.equal(maps["class"].weight, other["class"].weight)


def test_mapped_half_precision_features_are_read_like_any(tmp_path) -> None:
    features, labels = clusters(100, 4, 5, 2, 1.0)
    half = features.half()
    np.save(tmp_path / "f.npy", half.numpy())
    mapped = torch.from_numpy(np.load(tmp_path / "f.npy", mmap_mode="c"))
    wanted, got = (fit(x, {"class": labels}, settings())[0]["class"] for x in (half.float(), mapped))
    assert torch.equal(wanted.weight, got.weight)


# ------------------------------------------------------------------------------------------------
# What it learns
# ------------------------------------------------------------------------------------------------


def accuracy(features: Tensor, labels: Tensor, maps: LinearMaps, standard) -> np.ndarray:
    predictions = predict(features, torch.arange(len(features)), maps, standard, CPU)  # (M, S, R)
    return (predictions == labels.view(-1, 1, 1)).double().mean(0).numpy()


def test_separable_features_are_told_apart_and_random_labels_are_not() -> None:
    features, labels = clusters(1200, 10, 32, 2, 0.1)
    options = settings(epochs=20, learning_rates=[1.0])
    train = torch.arange(600)
    maps, standard = fit(features, {"class": labels}, options, train)
    assert (accuracy(features[600:], labels[600:], maps["class"], standard) == 1).all()
    shuffled = labels[torch.randperm(1200, generator=torch.Generator().manual_seed(1))]
    maps, standard = fit(features, {"class": shuffled}, options, train)
    chance = accuracy(features[600:], shuffled[600:], maps["class"], standard)
    assert (np.abs(chance - 0.1) < 4 * math.sqrt(0.1 * 0.9 / 600)).all()


def test_scikit_learn_agrees() -> None:
    features, labels = clusters(2000, 5, 8, 1, 1.2)
    train, rest = torch.arange(1500), torch.arange(1500, 2000)
    maps, standard = fit(features, {"class": labels}, settings(epochs=40, learning_rates=[1.0]), train)
    ours = predict(features, rest, maps["class"], standard, CPU)[:, 0, 0].numpy()
    scaled = ((features[:, 0] - standard.mean[0]) * standard.scale[0]).numpy()
    theirs = LogisticRegression(C=1e4, max_iter=1000).fit(scaled[:1500], labels[:1500]).predict(scaled[1500:])
    truth = labels[1500:].numpy()
    assert 0.6 < (theirs == truth).mean() < 0.98  # neither trivial nor hopeless
    assert abs((ours == truth).mean() - (theirs == truth).mean()) < 0.015
    assert (ours == theirs).mean() > 0.97


def test_constant_features_give_the_commonest_label() -> None:
    labels = torch.tensor([0, 1, 1, 2] * 30)
    features = torch.full((120, 1, 4), 0.3)  # CLS of the embedding: the same for every image
    maps, standard = fit(features, {"class": labels}, settings(epochs=20))
    assert (predict(features, torch.arange(120), maps["class"], standard, CPU) == 1).all()


def test_logits_far_apart_stay_right() -> None:
    # Beyond the depth at which logits are cut off, a huge rate on separable features: still right, still finite.
    features, labels = clusters(300, 10, 32, 1, 0.05)
    maps, standard = fit(features, {"class": labels}, settings(epochs=30, learning_rates=[300.0]))
    inputs = (features[:, 0] - standard.mean[0]) * standard.scale[0]
    logits = inputs @ maps["class"].weight[0, 0].T + maps["class"].bias[0, 0]
    assert (logits.amax(1) - logits.amin(1)).min() > 46
    assert (logits.argmax(1) == labels).all()


def test_a_loss_that_is_not_finite_names_its_probe() -> None:
    features, labels = clusters(64, 4, 5, 4, 1.0)
    standard = standardisation(features, torch.arange(64))
    features[:, 3] *= 1e38
    options = settings(learning_rates=[1.0, 2.0])
    with pytest.raises(UserError, match="probe of class at depth 1, mean with learning rate 1 has a loss that is not"):
        fit_probes(
            *(features, torch.arange(64), {"class": labels}, {"class": 4}, options, standard),
            sets=set_names(1),
            device=CPU,
        )


# ------------------------------------------------------------------------------------------------
# The choice
# ------------------------------------------------------------------------------------------------


def test_images_held_back_are_spread_over_the_classes_and_seeded() -> None:
    folders = np.repeat(np.arange(8), 10)
    fitted, held = hold_back(folders, settings(selection_fraction=0.2))
    assert np.bincount(folders[held]).tolist() == [2] * 8
    assert sorted([*fitted.tolist(), *held.tolist()]) == list(range(80))
    assert torch.equal(held, hold_back(folders, settings(selection_fraction=0.2))[1])
    assert not torch.equal(held, hold_back(folders, settings(selection_fraction=0.2, seed=1))[1])
    with pytest.raises(UserError, match=r"leaves 3 classes without any; lower analysis\.probe\.selection_fraction"):
        hold_back(np.array([0, 1, 2, 3, 3, 3, 3]), settings(selection_fraction=0.6))


def test_the_best_rate_is_chosen_and_of_equals_the_smallest() -> None:
    rates = [3.0, 0.1, 1.0]
    truth = torch.tensor([0, 1, 2, 3])
    right = {(0, 0): 3, (0, 1): 3, (0, 2): 2, (1, 0): 4, (1, 1): 1, (1, 2): 0}  # (set, rate): how many
    predictions = torch.full((4, 2, 3), -1)
    for (place, rate), count in right.items():
        predictions[:count, place, rate] = truth[:count]
    maps = LinearMaps(torch.arange(2 * 3.0).view(2, 3, 1, 1), torch.arange(2 * 3.0).view(2, 3, 1))
    choice = choose_rates(maps, predictions, truth, rates)
    assert [rates[number] for number in choice.rate] == [0.1, 3.0]
    assert choice.maps.weight.flatten().tolist() == [1, 3]
    assert choice.accuracy.tolist() == [[0.75, 0.75, 0.5], [1.0, 0.25, 0.0]]
    table = selection_table({"class": choice}, rates)
    assert table[table["chosen"]][["depth", "pooling", "learning_rate", "value"]].to_numpy().tolist() == [
        [0, "cls", 0.1, 0.75],
        [0, "mean", 3.0, 1.0],
    ]
    assert len(table) == 6
