"""Names in claims.yaml that mean nothing are refused with their line and the nearest that does."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cl_vs_mim.audit.claims import load_claims
from cl_vs_mim.audit.vocabulary import _TABLES
from cl_vs_mim.config.tasks import TASKS
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.figures.figure import FIGURES
from cl_vs_mim.figures.sources import Table
from cl_vs_mim.metrics.layouts import MEASURED
from cl_vs_mim.metrics.register import named_metrics, registered

CLAIMS = Path(__file__).resolve().parent.parent / "config" / "claims.yaml"


def _refused(tmp_path: Path, old: str, new: str) -> str:
    text = CLAIMS.read_text()
    assert old in text, f"claims.yaml no longer says {old!r}"
    path = tmp_path / "claims.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError) as caught:
        load_claims(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("table: attention,", "table: attenton,", "no study makes a table 'attenton'; did you mean 'attention'?"),
        ("{metric: nmi}", "{metric: nmii}", "is 'nmii'; did you mean 'nmi'?"),
        ("{metric: class_purity", "{metric: clas_purity", "is 'clas_purity'; did you mean 'class_purity'?"),
        ("{split: val}", "{splt: val}", "no column 'splt'; did you mean 'split'?"),
        ("{split: val}", "{split: vall}", "is 'vall'; did you mean 'val'?"),
        ("pooling: cls}", "pooling: clz}", "is 'clz'; did you mean 'cls'?"),
        ("model: dino,", "model: dyno,", "'dyno' is no model that the claims are about; did you mean 'dino'?"),
        ('"mim:smallest"', '"mim:smalest"', "'mim:smalest' is no model that the claims are about"),
        ("figure: fig1", "figure: figg", "there is no figure 'figg'; did you mean 'fig"),
        ("model: moco_v3, table: fourier", "model: moco_v33, table: fourier", "'moco_v33'"),
        ("[0.545, 1.0]", "[1.0, 0.545]", "rising order"),
        ("[0.545, 1.0]", "[0.545, 1.5]", "less than or equal to 1"),
        ("shifts: [0.0, -0.1, 0.1]", "shifts: [0.0, -7]", "greater than or equal to -1"),
        ("replicates: 2000", "replicates: 2000000000000", "less than or equal to 1000000"),
        ("published: 0.087", "published: .nan", "finite number"),
    ],
)
def test_a_name_or_number_that_means_nothing_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    message = _refused(tmp_path, old, new)
    assert said in message
    assert "line " in message.splitlines()[1]


@pytest.mark.parametrize("content", ["", "[]", "3", "{}"])
def test_a_file_that_says_nothing_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "claims.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=r"mapping of keys to values|this key is missing"):
        load_claims(path)


def test_metrics_read_from_the_text_are_those_that_are_registered() -> None:
    assert named_metrics() == {name: one.table for name, one in registered().items()}


def test_the_vocabulary_knows_only_tables_that_something_writes_or_draws() -> None:
    drawn = {
        source.kind for name in FIGURES.names() for source in FIGURES[name].reads.values() if isinstance(source, Table)
    }
    written = {table for name in TASKS.names() for table in TASKS[name].tables}
    assert set(_TABLES) <= drawn | written
    assert not set(_TABLES) & set(MEASURED)


def test_every_model_that_is_declared_is_asked_for() -> None:
    text = CLAIMS.read_text()
    for model in yaml.safe_load(text)["models"]:
        assert text.count(f"model: {model}") > 0, f"claims.yaml declares {model} for nothing"
