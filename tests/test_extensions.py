"""Extensions: files and folders that a study names, one test a kind, and two studies in one process."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cl_vs_mim.analysis.commands import COMMANDS as ANALYSIS
from cl_vs_mim.cli import main
from cl_vs_mim.config import Study, load_study
from cl_vs_mim.config.objective import OBJECTIVES
from cl_vs_mim.config.study import expanded
from cl_vs_mim.config.tasks import scores, study_tasks
from cl_vs_mim.core import closure
from cl_vs_mim.core.commands import Command
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.registry import in_use, using
from cl_vs_mim.core.tables import read_table
from cl_vs_mim.encoder.decoders import DECODERS
from cl_vs_mim.encoder.families import FAMILIES
from cl_vs_mim.encoder.model import build_encoder
from cl_vs_mim.figures import result_tables
from cl_vs_mim.figures.commands import COMMANDS as FIGURES
from cl_vs_mim.figures.figure import figures_of, named_figure
from cl_vs_mim.metrics.register import registered
from cl_vs_mim.pretrain.commands import COMMANDS as PRETRAIN
from cl_vs_mim.pretrain.registry import build_objective
from cl_vs_mim.transfer.commands import COMMANDS as TRANSFER
from test_transfer_figures import REFERENCE, answers

COMMAND: dict[str, Command] = {one.name: one for one in (*ANALYSIS, *FIGURES, *PRETRAIN, *TRANSFER)}
CONTROL = "untrained_vit_seed0"


class Place:
    """An empty directory with a study that names its folder ``mine`` as an extension."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder, self.root = folder, root
        self.raw = yaml.safe_load((root / "config" / "smoke.yaml").read_text(encoding="utf-8"))
        self.raw["extensions"] = [str(folder / "mine")]
        (folder / "mine").mkdir(parents=True)

    def example(self, title: str, name: str) -> dict[str, Any]:
        """Write the Python file of a section of docs/extending.md; gives what the YAML of the section says."""
        page = (self.root / "docs" / "extending.md").read_text(encoding="utf-8")
        (section,) = re.findall(rf"^## {title}$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        blocks = dict(re.findall(r"^```(python|yaml)\n(.*?)^```", section, re.MULTILINE | re.DOTALL))
        self.write(name, blocks["python"])
        return yaml.safe_load(blocks.get("yaml", "{}"))

    def write(self, name: str, source: str) -> None:
        (self.folder / "mine" / f"{name}.py").write_text(source, encoding="utf-8")

    @property
    def config(self) -> Path:
        path = self.folder / "smoke.yaml"
        path.write_text(yaml.safe_dump(self.raw), encoding="utf-8")
        return path

    def study(self) -> Study:
        return load_study(self.config)

    def edited(self, name: str, commands: dict[str, str]) -> set[str]:
        """Names of those commands (name -> run) whose code an edit of a file changes."""
        study = self.study()
        before = {one: COMMAND[one].decided(study, run) for one, run in commands.items()}
        path = self.folder / "mine" / f"{name}.py"
        path.write_text(path.read_text(encoding="utf-8") + "\nEDITED = 1\n", encoding="utf-8")
        for function in ("_tree", "_imports", "_code", "_data_files"):
            getattr(closure, function).cache_clear()
        return {one for one, run in commands.items() if COMMAND[one].decided(study, run) != before[one]}


@pytest.fixture
def place(tmp_path: Path, root: Path) -> Place:
    return Place(tmp_path / "one", root)


def test_an_objective(place: Place) -> None:
    models = place.example("An objective", "rotation")["models"]
    place.raw["models"] |= models
    study = place.study()
    model = study.models["rotation"]
    assert type(model.objective).__name__ == "RotationConfig" and "rotation" not in OBJECTIVES.names()
    runs = {"pretrain": "rotation_seed0", "figures": "fig3"}
    assert place.edited("rotation", runs) == {"pretrain"}
    assert place.edited("rotation", {"pretrain": "moco_v3_seed0"}) == set()
    with using(study.extensions):
        assert type(build_objective(model, study.architectures[model.architecture], 0)).__name__ == "Rotation"
    place.raw["models"]["rotation"]["objective"]["poling"] = "cls"
    with pytest.raises(UserError, match=r"models.rotation.objective.poling: unknown key; did you mean 'pooling'"):
        place.study()
    place.raw["models"]["rotation"]["objective"]["method"] = "rotatoin"
    with pytest.raises(UserError, match="there is no objective 'rotatoin'; did you mean 'rotation'"):
        place.study()


def test_a_metric(place: Place) -> None:
    place.example("A metric in an existing table", "attention_to_cls")
    study = place.study()
    with using(study.extensions):
        assert registered()["attention_to_cls"].table == "attention"
    assert "attention_to_cls" not in registered()
    assert place.edited("attention_to_cls", {"extract": CONTROL, "embedding": CONTROL}) == {"extract"}


def test_a_family(place: Place) -> None:
    place.example("An architecture family", "normed_vit")
    named = {"family": "normed_vit", "label": "ViT with normalised queries"}
    place.raw["architectures"]["normed"] = place.raw["architectures"]["vit"] | named
    place.raw["models"]["moco_v3"]["architecture"] = "normed"
    study = place.study()
    with using(study.extensions):
        encoder = build_encoder(study.architectures["normed"].spec(), 0)
    assert type(encoder.family).__name__ == "NormedViT" and "normed_vit" not in FAMILIES.names()
    runs = {"pretrain": "moco_v3_seed0", "extract": "untrained_normed_seed0", "transfer": "finetuning/moco_v3_seed0"}
    assert place.edited("normed_vit", runs) == set(runs)
    others = {"pretrain": "simmim_seed0", "extract": "simmim_seed0", "transfer": "finetuning/simmim_seed0"}
    assert place.edited("normed_vit", others) == set()


def test_a_decoder(place: Place) -> None:
    place.write(
        "stripes",
        "from cl_vs_mim.encoder.decoders import Decoder\n\nclass Stripes(Decoder): ...\n\nDECODER = Stripes\n",
    )
    assert DECODERS.of(place.study())["stripes"].__name__ == "Stripes" and "stripes" not in DECODERS.names()


def test_a_figure(place: Place) -> None:
    place.example("A table and a figure", "entropy_information")
    study = place.study()
    assert figures_of(study)["entropy_information"] == "entropy_information"
    assert named_figure("entropy_information", study)[1].title.startswith("Entropy")
    assert place.edited("entropy_information", {"figures": "entropy_information", "table": "transfer"}) == {"figures"}


def test_a_task(place: Place) -> None:
    settings = place.example("A transfer task", "nearest_class")["transfer"]
    place.raw["transfer"] |= settings
    study = place.study()
    assert "nearest_class" in study_tasks(study) and "nearest class" in scores(study)
    runs = {"transfer": f"nearest_class/{CONTROL}", "finetune": "moco_v3_seed0"}
    assert place.edited("nearest_class", runs) == {"transfer"}
    assert "nearest_class" in result_tables.reads("transfer", study)
    frame = answers(study, "moco_v3", 0.5).drop(columns=["classes", "protocol", "depth", "pooling", "metric"])
    reference = read_table(REFERENCE)
    rows = result_tables.collect({"nearest_class": frame, "reference": reference}, study)
    assert result_tables.grid(rows, study).loc[0, "nearest class (%)"].startswith("50.0 [")
    place.raw["transfer"]["nearest_class"]["metrik"] = "cosine"
    with pytest.raises(UserError, match=r"transfer.nearest_class.metrik: unknown key; did you mean 'metric'"):
        place.study()


def test_two_studies_in_one_process_see_their_own_only(place: Place, tmp_path: Path, root: Path) -> None:
    other = Place(tmp_path / "two", root)
    source = "from cl_vs_mim.figures.fig03 import FIGURE as F\nfrom dataclasses import replace\n\n"
    place.write("mine", f"{source}FIGURE = replace(F, title='one')\n")
    other.write("mine", f"{source}FIGURE = replace(F, title='two')\n")
    other.write("only", f"{source}FIGURE = replace(F, title='only')\n")
    other.raw["transfer"] |= other.example("A transfer task", "nearest_class")["transfer"]
    one, two = place.study(), other.study()
    assert [named_figure("mine", study)[1].title for study in (one, two, one)] == ["one", "two", "one"]
    assert "only" in figures_of(two) and "only" not in figures_of(one)
    with using(two.extensions):  # not even there
        assert "only" not in figures_of(one) and "nearest_class" not in study_tasks(one)
    place.raw["transfer"]["nearest_class"] = other.raw["transfer"]["nearest_class"]
    with pytest.raises(UserError, match=r"transfer.nearest_class: unknown key"):
        place.study()
    assert in_use() == ()


def test_what_is_written_out_reads_back(place: Place) -> None:
    place.raw["models"] |= place.example("An objective", "rotation")["models"]
    study = place.study()
    place.raw = yaml.safe_load(expanded(study))
    assert place.study() == study


def test_a_command_works_within_its_study_s_extensions(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.raw["models"] |= place.example("An objective", "rotation")["models"]
    main(["show-study", "--config", str(place.config)])
    assert "method: rotation" in capsys.readouterr().out and in_use() == ()


@pytest.mark.parametrize(
    ("name", "named", "message"),
    [
        ("mine", "nowhere", "extensions: .*nowhere is neither a folder nor a Python file"),
        ("moco_v3", "mine", "objective 'moco_v3' exists already"),
        ("a $(touch X)", "mine", "named as its file is"),  # a name that would reach shells and patterns
    ],
)
def test_what_cannot_be_found_is_said(place: Place, name: str, named: str, message: str) -> None:
    place.write(name, "OBJECTIVE = None\n")
    place.raw["extensions"] = [str(place.folder / named)]
    with pytest.raises(UserError, match=message):
        place.study()
