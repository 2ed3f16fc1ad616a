"""The picture of all training curves: every run once, losses that begin at one, and no run of another study."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from checkout import ROOT, STUDIES
from cl_vs_mim.config import Study, load_study
from cl_vs_mim.config.encoders import recorded_runs
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.figures import training
from cl_vs_mim.figures.style import describe
from figure_tables import draw

SHIPPED = [load_study(ROOT / "config" / f"{name}.yaml") for name in STUDIES]
RECORDED = [study for study in SHIPPED if recorded_runs(study)]  # with trainings to draw


@pytest.fixture(scope="module")
def study(root: Path) -> Study:
    return load_study(root / "config" / "smoke.yaml")


def log(
    model: str, seed: int = 0, steps: int = 6, first_loss: float = 4.0, study: str = "smoke", architecture: str = "vit"
) -> pd.DataFrame:
    step = np.arange(1, steps + 1)
    epoch_ends = step % 3 == 0
    return pd.DataFrame(
        {
            **{"study": study, "data_hash": "ab" * 32, "model": model, "label": model, "seed": seed, "step": step},
            **{
                "architecture": architecture,
                "loss": first_loss / step,
                "feature_std": 0.9 - 0.1 * step,
                "grad_norm": 1.0 / step,
            },
            "nmi": np.where(epoch_ends, 0.1 * step, np.nan),
        }
    )


def test_every_run_is_drawn_from_its_first_loss_to_its_end(study: Study) -> None:
    frame = pd.concat([log("simmim", first_loss=0.5), log("moco_v3", seed=1), log("moco_v3", first_loss=8.0)])
    figure, drawn = draw("training", study, log=frame)
    loss, spread, nmi, norm = figure.axes
    assert [axes.get_ylabel() for axes in figure.axes] == list(training._PANELS.values())
    assert [line.get_label() for line in loss.lines] == ["MoCo v3", "MoCo v3", "SimMIM"]  # in the order of the study
    for line in loss.lines:
        x, y = line.get_data()
        assert x[-1] == 1 and y[0] == 1
        np.testing.assert_allclose(y, 1 / np.arange(1, 7))
    assert [len(line.get_xdata()) for line in nmi.lines] == [2] * 3, "only the ends of epochs"
    assert norm.get_yscale() == "log" and len(spread.lines) == 3
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["MoCo v3", "SimMIM"], "one entry for all seeds"
    assert len(drawn) == 18


def test_a_run_of_another_study_is_refused(study: Study) -> None:
    with pytest.raises(UserError, match="study 'smoke' has no resnet; known: moco_v3"):
        draw("training", study, log=log("resnet"))


@pytest.mark.parametrize("study", RECORDED, ids=lambda study: study.study)
def test_no_two_models_look_alike(study: Study) -> None:
    logs = [log(name, study=study.study, architecture=model.architecture) for name, model in study.models.items()]
    figure, _ = draw("training", study, log=pd.concat(logs))
    looks = [(line.get_color(), line.get_marker()) for line in figure.axes[0].lines]
    assert len(set(looks)) == len(study.models)


def test_hybrids_are_not_missed_where_methods_are_set_side_by_side(study: Study) -> None:
    shown = [*study.methods(), *study.controls()]
    assert "hybrid_05" not in shown and "tokenizer" not in shown
    frame = pd.DataFrame({"model": shown, "label": shown, "paradigm": "cl", "seed": 0, "image": "val/0"})
    assert "Missing" not in describe(study, frame)
    assert "Missing: SimMIM." in describe(study, frame[frame["model"] != "simmim"])
