"""Figures are found by the register, say what they read, and are drawn again for that and for nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from cl_vs_mim.config import Study, load_study
from cl_vs_mim.core.closure import closure
from cl_vs_mim.figures.commands import COMMANDS
from cl_vs_mim.figures.figure import FIGURES, figures_of, restricted
from cl_vs_mim.figures.sources import GROUPS, Table, made, paths_of

COMMAND = {command.name: command for command in COMMANDS}


@pytest.fixture(scope="module")
def study(root: Path) -> Study:
    return load_study(root / "config" / "smoke.yaml")


def changed(study: Study, path: str, value: object) -> Study:
    """The study with one value of it replaced; the path is dotted, keys of dictionaries included."""
    key, _, rest = path.partition(".")
    old = study[key] if isinstance(study, dict) else getattr(study, key)
    new = changed(old, rest, value) if rest else value
    return study | {key: new} if isinstance(study, dict) else study.model_copy(update={key: new})


def figures_that_change(study: Study, path: str, value: object) -> set[str]:
    other = changed(study, path, value)
    decides = COMMAND["figures"].decides
    return {file for file, name in figures_of(study).items() if decides(study, name) != decides(other, name)}


def test_every_figure_of_the_package_says_what_it_is(study: Study) -> None:
    for name in FIGURES.names():
        figure = FIGURES[name]
        assert figure.title and figure.caption.endswith((".", "…"))
        for source in figure.reads.values():
            assert not isinstance(source, Table) or source.of in GROUPS
    assert list(figures_of(study)) == sorted(figures_of(study), key=lambda name: figures_of(study)[name])
    assert {f"fig{number}" for number in range(1, 13)} <= set(figures_of(study))


@pytest.mark.parametrize(
    ("path", "value", "figures"),
    [
        ("figures.attention_maps.head", 1, {"fig2"}),
        ("figures.diversity.tokens", "blocks", None),
        ("figures.spectrum.rank_fraction", 0.5, {"fig7"}),
        ("analysis.movement.early", 2, {"fig6"}),
        ("analysis.embedding.perplexity", 7.0, {"appendix_tsne"}),
        ("analysis.control_seeds", [0, 1], set()),
        ("models.mae.choices", "other words", set()),
        ("models.mae.seeds", [0, 1], set()),
        ("models.tokenizer.label", "other", {"training"}),
        ("models.hybrid_05.label", "other", {"fig12", "training", "appendix_sizes"}),
        ("models.supervised.training.epochs", 9, set()),
        ("compute.training_threads", 2, set()),
        ("expect.result", "other", set()),
    ],
)
def test_a_figure_hangs_on_what_it_shows_alone(
    study: Study, path: str, value: object, figures: set[str] | None
) -> None:
    if figures is None:
        overviews = {f"appendix_{name}" for name in ("diversity", "finetuned", "methods", "sizes")}
        figures = overviews | {"fig5"}
    assert figures_that_change(study, path, value) == figures


def test_a_label_changes_the_figures_that_draw_its_encoder(study: Study) -> None:
    found = figures_that_change(study, "models.moco_v3.label", "MoCo")
    assert set(figures_of(study)) - found == {"fig11", "fig12"}
    assert figures_that_change(study, "title", "other") == set(figures_of(study))


def test_no_figure_reads_a_setting_that_it_does_not_declare(study: Study) -> None:
    lean = restricted(study, ("figures.bootstrap",))
    assert lean.figures.bootstrap == study.figures.bootstrap and lean.models == study.models
    for part, key in (("figures", "diversity"), ("analysis", "movement"), ("compute", "training_threads")):
        with pytest.raises(LookupError, match=rf"reads {part}\.{key}, which is not among its settings"):
            getattr(getattr(lean, part), key)


def test_the_code_of_a_figure_is_its_own_module_and_what_that_imports(study: Study) -> None:
    code = {name: closure(COMMAND["figures"].code(study, name)) for name in FIGURES.names()}
    modules = {FIGURES.module(name) for name in FIGURES.names()}
    shared = {"appendix_diversity": {"fig05"}, "appendix_heads": {"fig03"}, "appendix_maps": {"fig02"}}
    shared |= {"fig04": {"fig03"}, "fig11": {"fig08"}, "fig12": {"fig08"}}
    shared |= {f"appendix_{name}": {"fig08"} for name in ("finetuned", "methods", "sizes")}
    for name, found in code.items():
        others = {module.rpartition(".")[2] for module in found & modules} - {name}
        assert others == shared.get(name, set())
        assert not any(re.match(r"cl_vs_mim\.(encoder|pretrain|transfer|analysis|data|config)\b", one) for one in found)


def test_tables_are_of_the_encoders_that_have_them(study: Study) -> None:
    assert set(made(study, "detection")) == set(GROUPS["pair"](study))
    assert set(made(study, "grid4/attention")) == set(GROUPS["pair"](study)) and not made(study, "grid9/attention")
    assert set(made(study, "finetuned/attention")) == {"moco_v3_seed0", "simmim_seed0"}
    assert set(made(study, "decoder_fourier")) == {"mae_seed0", "simmim_seed0"}
    assert "tokenizer_seed0" in made(study, "training") and "tokenizer_seed0" not in made(study, "attention")
    none = study.model_copy(update={"transfer": None})
    assert not any(made(none, kind) for kind in ("detection", "finetuning", "finetuned/attention", "augmented_probe"))
    paths = paths_of(study, FIGURES["fig02"].reads, Path("t"), Path("r.csv"))
    assert paths["pixels"] == [Path("t/attention_image/moco_v3_seed0.parquet")] and len(paths["maps"]) == 4
    assert paths_of(study, FIGURES["training"].reads, Path("t"), Path())["log"][0] == Path(
        "t/training/moco_v3_seed0.csv"
    )


def test_a_table_of_results_hangs_on_level_and_words(study: Study) -> None:
    decides = COMMAND["table"].decides
    level = changed(study, "figures.bootstrap.level", 0.9)
    assert decides(study, "transfer") != decides(level, "transfer")
    label = changed(study, "models.hybrid_05.label", "other")
    assert decides(study, "transfer") == decides(label, "transfer")
    assert decides(study, "hybrid") != decides(label, "hybrid")
    assert isinstance(pd.Series(decides(study, "hybrid")).to_json(), str), "plain data"
