"""The commands that draw: ``figures`` and ``table``. Both need the tables of a study and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cl_vs_mim.core.commands import Command

if TYPE_CHECKING:
    from cl_vs_mim.config import Study
    from cl_vs_mim.config.tasks import Score

DECIDES_NO_RESULT = True

_REFERENCE = Path("results/reference/reference_values.csv")

# ------------------------------------------------------------------------------------------------
# Figures
# ------------------------------------------------------------------------------------------------


def figures(name: str, *, config: Path, tables: Path, output: Path, reference: Path = _REFERENCE) -> None:
    """Draw one figure from the tables of a study.

    Args:
        name: the figure, such as fig3; a wrong name lists all.
        config: the study's YAML.
        tables: folder of the study's tables, `results/<study>/tables`.
        output: the PDF; a PNG and a CSV of exactly what is drawn come beside it.
        reference: the table of published values.

    Raises:
        UserError: there is no such figure, or a table that it needs is missing, incomplete or of another study.

    Example:
        cl-vs-mim figures fig3 --config config/demo.yaml --tables results/demo/tables --output figures/fig3.pdf
    """
    from cl_vs_mim.config import load_study
    from cl_vs_mim.figures import style
    from cl_vs_mim.figures.figure import named_figure
    from cl_vs_mim.figures.sources import paths_of
    from cl_vs_mim.figures.tables import read_frames

    study = load_study(config)
    _, figure = named_figure(name, study)
    frames = read_frames(figure.reads, study, paths_of(study, figure.reads, tables, reference))
    picture, drawn = figure.drawn(frames, study)
    style.save(picture, drawn, output, title=figure.title, caption=figure.caption)


def figure_decides(study: Study, name: str) -> dict[str, Any]:
    """What a figure depends on besides its tables: the settings that it reads, and its encoders' labels and looks."""
    from cl_vs_mim.config.tasks import project_score
    from cl_vs_mim.figures.figure import named_figure, setting

    _, figure = named_figure(name, study)
    decided = {
        **_pages(study),
        "settings": {key: setting(study, key) for key in figure.sections()},
        "encoders": _encoders(study, figure.reads),
    }
    return decided | {"scores": _plain(map(project_score, figure.scores))} if figure.scores else decided


def _figure_code(study: Study, name: str) -> tuple[str, ...]:
    from cl_vs_mim.figures.figure import FIGURES, named_figure

    name, _ = named_figure(name, study)
    return (FIGURES.of(study).module(name), "cl_vs_mim.figures.style", "cl_vs_mim.figures.tables")


# ------------------------------------------------------------------------------------------------
# Tables of results
# ------------------------------------------------------------------------------------------------


def table(name: str, *, config: Path, tables: Path, output: Path, reference: Path = _REFERENCE) -> None:
    """Write one table of results: Table 1 of the methods (transfer) or Table 2 of the hybrids (hybrid).

    Args:
        name: transfer or hybrid.
        config: the study's YAML.
        tables: folder of the study's tables, `results/<study>/tables`.
        output: the CSV; Markdown and LaTeX come beside it.
        reference: the table of published values.

    Raises:
        UserError: there is no such table, or results that it needs are missing or do not compare.

    Example:
        cl-vs-mim table transfer --config config/demo.yaml --tables results/demo/tables --output tables/transfer.csv
    """
    from cl_vs_mim.config import load_study
    from cl_vs_mim.core.files import write_text
    from cl_vs_mim.core.tables import write_table
    from cl_vs_mim.figures import result_tables
    from cl_vs_mim.figures.sources import paths_of
    from cl_vs_mim.figures.tables import read_frames

    study = load_study(config)
    reads = result_tables.reads(name, study)
    frames = read_frames(reads, study, paths_of(study, reads, tables, reference))
    rows = result_tables.collect(frames, study)
    page, text = result_tables.grid(rows, study), result_tables.caption(study, rows)
    write_text(output.with_suffix(".md"), result_tables.markdown(page, text))
    write_text(output.with_suffix(".tex"), result_tables.latex(page, text))
    write_table(output, rows)


def table_decides(study: Study, name: str) -> dict[str, Any]:
    """What a table of results depends on besides the tables behind it."""
    from cl_vs_mim.config.tasks import scores
    from cl_vs_mim.figures import result_tables
    from cl_vs_mim.figures.figure import setting

    reads = result_tables.reads(name, study)
    return {
        **_pages(study),
        "settings": {key: setting(study, key) for key in result_tables.SETTINGS},
        "encoders": _encoders(study, reads),
        "scores": _plain(score for score in scores(study).values() if score.table in reads),
    }


# ------------------------------------------------------------------------------------------------
# What decides
# ------------------------------------------------------------------------------------------------


def _pages(study: Study) -> dict[str, Any]:
    """What every page says of its study."""
    return {"study": study.study, "title": study.title, "reduced": study.reduced}


def _plain(found: Iterable[Score]) -> list[dict[str, Any]]:
    """Scores as plain data: the tasks state them, and a page does not depend on the code of tasks."""
    return [asdict(score) for score in found]


def _encoders(study: Study, reads: Mapping[str, Any]) -> dict[str, Any]:
    """Words, looks and sizes of the encoders that a page shows; their seeds are in the names of its inputs."""
    from cl_vs_mim.figures.looks import hybrid_weights, series_styles
    from cl_vs_mim.figures.sources import Table, runs_of

    read = [one for one in reads.values() if isinstance(one, Table)]
    shown = {model for one in read for model, _ in runs_of(study, one).values()}
    looks, weights, controls = series_styles(study), hybrid_weights(study), study.controls()
    found = {}
    for name in [one for one in (*study.models, *controls) if one in shown]:
        model = study.models.get(name)
        size = study.architectures[model.architecture if model else controls[name]]
        look = looks[name]
        found[name] = {
            "label": model.label if model else size.label,
            "method": model.method if model else "untrained",
            "lambda": weights.get(name),
            "look": [look.color, look.marker, str(look.linestyle), look.zorder, look.hollow],
            "size": {"label": size.label, "width": size.width, "depth": size.depth},
        }
    return found


COMMANDS = (
    Command("figures", figures, figure_decides, _figure_code),
    Command("table", table, table_decides, lambda study, name: ("cl_vs_mim.figures.result_tables",)),
)
