"""Time to phenomenon: neighbours that vote, effects on curves that are known, and onsets that stay."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cl_vs_mim.analysis import commands
from cl_vs_mim.analysis.snapshots import find_snapshots
from cl_vs_mim.config import Study, load_study
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.data.images import decode_many, index_image_folder, normalise, select_evenly
from cl_vs_mim.encoder.checkpoints import load_encoder, save_encoder
from cl_vs_mim.encoder.model import build_encoder
from cl_vs_mim.figures.phenomena import EFFECTS, FIGURE, effect_curves, onset, onsets
from cl_vs_mim.metrics.attention import normalized_mutual_information
from cl_vs_mim.metrics.neighbours import nearest_neighbour_classes
from cl_vs_mim.metrics.yardstick import uniform_attention_distance
from workplace import Workplace, labelled_pictures

SEEN = {"moco_v3": [0, 1000, 2000, 4000], "simmim": [0, 1010, 2010, 4010]}  # batches differ


@pytest.fixture
def study(workplace: Workplace) -> Study:
    workplace.study["analysis"]["phenomena"] = {"images": 8, "memory": 8, "neighbours": 4}
    for name in ("moco_v3", "simmim"):
        workplace.training(name)["snapshots"] = {"first": 16}
    return load_study(workplace.config())


# ------------------------------------------------------------------------------------------------
# Neighbours
# ------------------------------------------------------------------------------------------------


def test_the_nearest_by_angle_votes_and_length_does_not_count() -> None:
    memory = torch.tensor([[100.0, 1.0], [0.0, 0.1], [-1.0, 0.0]])
    found = nearest_neighbour_classes(torch.tensor([[1.0, 0.0], [0.1, 5.0]]), memory, torch.tensor([2, 0, 1]), 1)
    assert found.tolist() == [2, 0]


def test_votes_are_weighted_by_similarity() -> None:
    """Two of one class farther away lose to one that is near, at a low temperature, and win at a high one."""
    memory = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, -1.0]])
    labels, image = torch.tensor([0, 1, 1]), torch.tensor([[1.0, 0.0]])
    assert nearest_neighbour_classes(image, memory, labels, 3, temperature=0.07).tolist() == [0]
    assert nearest_neighbour_classes(image, memory, labels, 3, temperature=10.0).tolist() == [1]


def test_a_memory_smaller_than_the_number_of_neighbours_is_used_whole() -> None:
    assert nearest_neighbour_classes(torch.ones(2, 3), torch.ones(1, 3), torch.tensor([4]), 20).tolist() == [4, 4]


# ------------------------------------------------------------------------------------------------
# Onsets
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "above", "expected"),
    [
        ([0, 2, 0, 2, 2], True, 30),  # comes, goes, and comes to stay
        ([0, 2, 2, 2, 0], True, math.nan),  # gone at the end
        ([2, 2, 2, 2, 2], True, 0),  # there before any training
        ([2, 2, 1, 0, 1], False, 20),
    ],
)
def test_an_effect_has_appeared_where_it_stays(values: list[float], above: bool, expected: float) -> None:
    found = onset(pd.Series(values, index=[0, 10, 20, 30, 40], dtype=float), 1.0, above)
    assert found == expected or (math.isnan(found) and math.isnan(expected))


def snapshots(values: dict[str, dict[str, list[list[float]]]], seeds: tuple[int, ...] = (0,)) -> pd.DataFrame:
    """The table of trainings whose metrics are ``values[model][metric][snapshot][block]``; others are constant."""
    constant = {"attention_distance": 30.0, "nmi": 0.1, "attention_entropy": 0.9, "query_similarity": 0.9}
    constant |= {"knn_mean": 0.2, "relative_log_amplitude": -2.0}
    rows = []
    for seed in seeds:
        for model, seen in SEEN.items():
            for metric, value in constant.items():
                given = values.get(model, {}).get(metric, [[value] * 4] * len(seen))
                for images, blocks in zip(seen, given, strict=True):
                    for block, one in enumerate(blocks, start=1):
                        rows.append((model, seed, images, images / 10, float(block), metric, one, 6, 8))
    names = ["model", "seed", "images_seen", "seconds", "depth", "metric", "value", "grid", "patch_size"]
    return pd.DataFrame(rows, columns=names)


UNIFORM = uniform_attention_distance(6, 8)
PLANTED = {
    # two of the four blocks are near at the third snapshot: half of them
    "near": {
        "simmim": {
            "attention_distance": [
                [UNIFORM * share for share in (1.0, one, other, 0.9)]
                for one, other in ((1.0, 1.0), (0.7, 0.9), (0.7, 0.79), (0.5, 0.5))
            ]
        }
    },
    "valley": {
        "moco_v3": {
            "attention_distance": [
                [UNIFORM, UNIFORM * (1 - dip), UNIFORM, UNIFORM * 1.1] for dip in (0.0, 0.04, 0.06, 0.1)
            ]
        }
    },
    "concentrated": {"moco_v3": {"attention_entropy": [[0.9, 0.9, 0.9, 0.9 - gap] for gap in (0.0, 0.05, 0.2, 0.3)]}},
    "information": {"simmim": {"nmi": [[0.1, 0.1, 0.1, late] for late in (0.05, 0.09, 0.2, 0.3)]}},
    "neighbours": {"moco_v3": {"knn_mean": [[0.0, 0.0, 0.0, last] for last in (0.1, 0.2, 0.21, 0.4)]}},
    "fourier": {"simmim": {"relative_log_amplitude": [[-2, -2, -2, last] for last in (-3.0, -2.5, -1.9, -1.0)]}},
}


@pytest.mark.parametrize("effect", [one.name for one in EFFECTS])
def test_a_planted_effect_appears_where_it_was_planted_and_no_other_does(study: Study, effect: str) -> None:
    table = onsets(effect_curves(snapshots(PLANTED[effect]), study)).set_index("effect")
    images = 2010 if effect == "near" else 2000
    assert table.loc[effect, "images_value"] == images
    seconds = images / 10 + (201 if effect in ("information", "neighbours", "fourier") else 0)  # of both trainings
    assert table.loc[effect, "minutes_value"] == pytest.approx(seconds / 60)
    assert table.drop(effect)["images_value"].isna().all()


def test_queries_that_disagree_are_no_concentration(study: Study) -> None:
    curves = snapshots(PLANTED["concentrated"])
    curves.loc[(curves["metric"] == "query_similarity") & (curves["images_seen"] > 0), "value"] = 0.1
    table = onsets(effect_curves(curves, study)).set_index("effect")
    assert np.isnan(table.loc["concentrated", "images_value"])


def test_what_untrained_encoders_differ_by_is_taken_off(study: Study) -> None:
    """An order that the architectures have before any training is there at once, and never beyond it."""
    constant = {"moco_v3": {"knn_mean": [[0.5] * 4] * 4}}
    table = onsets(effect_curves(snapshots(constant), study)).set_index("effect")
    assert table.loc["neighbours", "images_value"] == 0 and np.isnan(table.loc["neighbours", "images_beyond"])


def test_a_dip_at_the_edge_is_no_valley(study: Study) -> None:
    falling = {"moco_v3": {"attention_distance": [[40.0, 30.0, 20.0, 10.0]] * 4}}
    table = onsets(effect_curves(snapshots(falling), study)).set_index("effect")
    assert np.isnan(table.loc["valley", "images_value"])


def test_trainings_of_different_seeds_are_not_compared(study: Study) -> None:
    frame = snapshots({})
    frame.loc[frame["model"] == "simmim", "seed"] = 1
    with pytest.raises(UserError, match="different seeds"):
        effect_curves(frame, study)


def test_the_figure_holds_curves_and_onsets_of_every_seed(study: Study) -> None:
    _, drawn = FIGURE.drawn({"snapshots": snapshots(PLANTED["near"], seeds=(0, 1))}, study)
    found = drawn[drawn["kind"] == "onset"]
    assert sorted(set(found["seed"])) == [0, 1] and set(found["effect"]) == {one.name for one in EFFECTS}


def test_snapshots_of_one_side_make_no_figure(study: Study) -> None:
    one = study.models["simmim"]
    assert one.training is not None
    training = one.training.model_copy(update={"snapshots": None})
    models = study.models | {"simmim": one.model_copy(update={"training": training})}
    assert not FIGURE.belongs_to(study.model_copy(update={"models": models}))


def test_only_a_study_that_measures_snapshots_has_the_figure(study: Study) -> None:
    assert FIGURE.belongs_to(study)
    without = study.model_copy(update={"analysis": study.analysis.model_copy(update={"phenomena": None})})
    assert not FIGURE.belongs_to(without)


# ------------------------------------------------------------------------------------------------
# Measuring
# ------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(workplace: Workplace, study: Study) -> Path:
    """An encoder with two snapshots of its run, and beside them a run folder of other code with the same recipe."""
    spec = study.architectures[study.models["moco_v3"].architecture].spec()
    for folder, images in (("moco_v3_seed0_new", (32, 16)), ("moco_v3_seed0_old", (64,))):
        for seen in images:
            path = workplace.folder / "runs" / folder / "snapshots" / f"images_{seen:010d}.safetensors"
            save_encoder(path, build_encoder(spec, seed=seen), {"images": seen, "config_hash": "same"})
    encoder = workplace.folder / "moco_v3_seed0.safetensors"
    save_encoder(encoder, build_encoder(spec, seed=1), {"run_folder": "moco_v3_seed0_new"})
    return encoder


def test_the_snapshots_are_those_of_the_encoders_own_run(workplace: Workplace, kept: Path) -> None:
    found = find_snapshots("moco_v3_seed0", kept, workplace.folder / "runs")
    assert [path.stem for path in found] == ["images_0000000016", "images_0000000032"]
    assert {path.parent.parent.name for path in found} == {"moco_v3_seed0_new"}


@pytest.mark.parametrize("named", [None, "../moco_v3_seed0_new", 3])
def test_an_encoder_that_does_not_say_its_run_is_refused(workplace: Workplace, kept: Path, named: object) -> None:
    save_encoder(kept, build_encoder(load_encoder(kept, "native").spec, seed=1), {"run_folder": named})
    with pytest.raises(UserError, match="give the folder with --snapshots"):
        find_snapshots("moco_v3_seed0", kept, workplace.folder / "runs")


def test_snapshots_are_measured_with_the_weights_that_training_began_with(workplace: Workplace, kept: Path) -> None:
    data = labelled_pictures(workplace.folder / "objects")
    shutil.copytree(data / "val", data / "train")
    log = workplace.folder / "log.csv"
    pd.DataFrame({"step": [1, 2], "seconds": [10.0, 20.0]}).to_csv(log, index=False)
    batch = workplace.training("moco_v3")["batch_size"]
    commands.snapshots(
        config=workplace.config(),
        run="moco_v3_seed0",
        encoder=kept,
        data=data,
        tables=workplace.folder,
        runs=workplace.folder / "runs",
        log_table=log,
        threads=1,
    )
    table = pd.read_parquet(workplace.folder / "snapshots" / "moco_v3_seed0.parquet")
    assert sorted(table["images_seen"].unique()) == [0, 16, 32]
    names = {"attention_distance", "nmi", "attention_entropy", "query_similarity", "relative_log_amplitude"}
    assert set(table["metric"]) == names | {"knn_cls", "knn_mean"}
    assert table["value"].notna().all()
    clock = table.drop_duplicates("images_seen").set_index("images_seen")["seconds"]
    assert clock.tolist() == pytest.approx([0.0, *(min(20.0, 10 * seen / batch) for seen in (16, 32))])

    spec = load_study(workplace.config()).architectures["vit"].spec()
    index = index_image_folder(data / "val")
    chosen = select_evenly(index.labels, 8, workplace.study["analysis"].get("seed", 0))
    images = normalise(decode_many(index, chosen, spec.image_size))
    with torch.inference_mode():
        last = build_encoder(spec, seed=0).eval().attentions(images)[-1]
    began = table[(table["images_seen"] == 0) & (table["metric"] == "nmi")].set_index("depth")["value"]
    assert began.loc[spec.depth] == pytest.approx(normalized_mutual_information(last).mean().item(), rel=1e-4)
