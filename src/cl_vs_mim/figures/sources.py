"""What figures, result tables and the audit are made from: which kinds of table a study has, and of which encoders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cl_vs_mim.config import Study, encoders
from cl_vs_mim.config.tasks import table_runs

Runs = dict[str, tuple[str, int]]  # stem of an encoder's files -> its model and seed

# ------------------------------------------------------------------------------------------------
# Encoders
# ------------------------------------------------------------------------------------------------


def _all(study: Study) -> Runs:
    return encoders.analysed_runs(study) | encoders.control_runs(study)


def _named(study: Study, stems: Iterable[str]) -> Runs:
    everything = encoders.trained_runs(study) | encoders.control_runs(study)
    return {stem: everything[stem] for stem in stems}


def _pair_trained(study: Study) -> Runs:
    controls = encoders.control_runs(study)
    return {stem: one for stem, one in encoders.pair_runs(study).items() if stem not in controls}


def _pair_first(study: Study) -> Runs:
    return dict(list(encoders.pair_runs(study).items())[:1])


# Names of groups of encoders, for Table.of.
GROUPS: dict[str, Callable[[Study], Runs]] = {
    "pair": encoders.pair_runs,  # the two models of the main figures, and the controls of their architectures
    "pair_trained": _pair_trained,  # without the controls
    "pair_first": _pair_first,  # one encoder of it, for what is the same for all
    "methods": encoders.method_runs,  # what the appendix sets side by side: no hybrids; all controls
    "hybrids": encoders.hybrid_runs,  # and the controls of their architectures; none where there are no hybrids
    "decoders": lambda study: _named(study, encoders.runs_with_decoder(study)),  # methods that paint pixels
    "decoder_figure": lambda study: _named(study, encoders.decoder_figure_runs(study)),  # and the control of MAE
    "analysed": _all,  # all that are measured, and all controls
    "recorded": encoders.recorded_runs,  # all whose training is on record, tokenizers too
}


# ------------------------------------------------------------------------------------------------
# Tables
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """One kind of table, of a group of encoders.

    Attributes:
        kind: folder under ``tables``, such as ``attention``.
        of: a key of :data:`GROUPS`.
        columns: columns that the figure cannot do without.
        optional: whether the figure is drawn without it, too; its files may then have no rows.
        suffix: suffix of the files.
        measured: whether its rows say model, seed and paradigm; False: of pictures, which are of no encoder.
    """

    kind: str
    of: str
    columns: tuple[str, ...] = ()
    optional: bool = False
    suffix: str = ".parquet"
    measured: bool = True


@dataclass(frozen=True)
class Reference:
    """The published and digitised values, ``results/reference/reference_values.csv``."""


def made(study: Study, kind: str) -> Runs:
    """The encoders that a study can have tables of this kind of.

    Tables of a transfer task are made where the study has its settings, of the encoders that the task is done for;
    those of fine-tuned encoders and of other grids are of the main pair alone.
    """
    folder, _, rest = kind.partition("/")
    if folder == "finetuned":
        return _pair_trained(study) if made(study, "finetuning") else {}
    if folder.startswith("grid") and rest:
        return encoders.pair_runs(study) if int(folder.removeprefix("grid")) in study.analysis.grids else {}
    if kind == "training":
        return encoders.recorded_runs(study)
    if kind == "snapshots":
        return encoders.snapshot_runs(study)
    if kind in ("decoder_fourier", "reconstruction"):
        return _named(study, encoders.runs_with_decoder(study))
    runs = table_runs(kind, study)
    return _all(study) if runs is None else runs


def runs_of(study: Study, table: Table) -> Runs:
    """The encoders that a table is read of in this study; none where the study does not make it."""
    there = made(study, table.kind)
    return {stem: one for stem, one in GROUPS[table.of](study).items() if stem in there}


def paths_of(
    study: Study, reads: Mapping[str, Table | Reference], tables: Path, reference: Path
) -> dict[str, list[Path]]:
    """The files behind what a figure reads, by its names; none behind an optional one that the study does not make.

    Args:
        study: the study that the figure belongs to.
        reads: what a figure or a table of results reads.
        tables: folder of the study's tables.
        reference: the table of published values.
    """
    found = {}
    for name, source in reads.items():
        if isinstance(source, Reference):
            found[name] = [reference]
        else:
            found[name] = [tables / source.kind / f"{stem}{source.suffix}" for stem in runs_of(study, source)]
    return found
