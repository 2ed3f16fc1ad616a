# The study, checked as a whole before any rule exists, and what several rules ask of it.

import os
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.io import is_flagged

from cl_vs_mim.cli import commands
from cl_vs_mim.config import FolderData, load_study
from cl_vs_mim.config.encoders import (
    analysed_runs,
    control_runs,
    needed_file,
    pair_runs,
    pretrained_runs,
    runs_with_decoder,
    trained_runs,
)
from cl_vs_mim.config.sections import NAME
from cl_vs_mim.config.tasks import study_tasks
from cl_vs_mim.core.errors import UserError, nearest
from cl_vs_mim.core.workflow_lock import hold_workflow
from cl_vs_mim.figures.figure import FIGURES as FIGURE_REGISTER
from cl_vs_mim.figures.figure import figures_of
from cl_vs_mim.figures.sources import paths_of
from cl_vs_mim.transfer.commands import task_command

# Rules call `cl-vs-mim`: the one beside the Python that runs Snakemake, also when the environment is not active. A conda
# environment of Snakemake's own (--sdm conda) goes before it.
os.environ.update(PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]))

HELD = hold_workflow(Path(".snakemake"))  # as long as this workflow lives; clears the lock of one that was killed

DOCUMENTED = "demo"  # the study that README and docs/ quote; no other writes there

if unknown := sorted(set(config) - {"study"}):
    raise WorkflowError(f"--config {unknown[0]}=…: there is no such key{nearest(unknown[0], ['study'])}")

CONFIG = f"config/{config.get('study', 'demo')}.yaml"
try:
    STUDY = load_study(Path(CONFIG))
except UserError as error:
    raise WorkflowError(str(error))

COMMAND = commands()  # verb -> Command: what decides its result, for the rules' params

RESULTS = f"results/{STUDY.study}"
REFERENCE = "results/reference/reference_values.csv"
DATASETS = ["objects", "scenes", "cue_conflict"]
TRAINED = trained_runs(STUDY)  # "moco_v3_seed0" -> ("moco_v3", 0)
PRETRAINED = pretrained_runs(STUDY)  # those of TRAINED that are trained here; the others are taken as they are
WEIGHTS = f"weights/{STUDY.study}"  # what is handed on; a study may take its own encoders from there
HANDED_ON = [run for run, one in TRAINED.items() if run in PRETRAINED or STUDY.models[one[0]].checkpoint_file(*one) == Path(WEIGHTS, f"{run}.safetensors")]
CONTROLS = control_runs(STUDY)  # "untrained_vit_seed0" -> ("untrained_vit", 0)
RUNS = analysed_runs(STUDY) | CONTROLS  # what is measured: all but tokenizers
PAIR = pair_runs(STUDY)  # those of RUNS that Figures 2 to 11 draw
DECODED = runs_with_decoder(STUDY)  # those of TRAINED that paint
TASKS = study_tasks(STUDY)  # those that the study has settings for, by name
OBJECTS = f"{RESULTS}/data/objects/manifest.json"

FIGURE_REGISTER = FIGURE_REGISTER.of(STUDY)  # with the study's extensions
FIGURES = figures_of(STUDY)  # name of the file -> name in the register, such as fig3 -> fig03
TABLE_FOLDER = f"{RESULTS}/tables"


def encoder_of(wildcards):
    """The file of a trained encoder; a control has none."""
    return f"{RESULTS}/encoders/{wildcards.run}.safetensors" if wildcards.run in TRAINED else []


def needed_by(wildcards):
    """The file of the model that has to be trained before, if any: of BEiT its tokenizer."""
    return needed_file(STUDY, TRAINED[wildcards.run][0], f"{RESULTS}/encoders") or []


def read_by(reads):
    """Every file that a figure or a table of results is made from."""
    return sum(paths_of(STUDY, reads, Path(TABLE_FOLDER), Path(REFERENCE)).values(), [])


def out_of_date(dag):
    """Make what a job that failed was to renew, and which is kept (``update``), older than all it is made from.

    Snakemake puts the old file back with the time of now, and notes the job as done; the file would be taken for new.
    """
    for job in dag.needrun_jobs(exclude_finished=True):
        for file in job.output:
            if is_flagged(file, "update") and os.path.exists(file):
                workflow.persistence.cleanup_metadata(file)
                os.utime(file, (1, 1))  # 1970; at 0 Snakemake does not compare


def known_figure(wildcards):
    """Nothing: says which figures there are."""
    near = nearest(wildcards.other, FIGURES)
    said = f"there is no figure {wildcards.other!r} in study {STUDY.study!r}{near.split('; valid')[0]}"
    raise WorkflowError(f"{said}; there are: {', '.join(FIGURES)}")


def encoder_options(wildcards, input):
    """Which encoder on which images, as the options that every command about one encoder has."""
    file = ["--encoder", input.encoder] if input.encoder else []
    return ["--config", CONFIG, "--run", wildcards.run, *file, "--data", str(Path(input.data).parent)]


def table_files(names):
    """Tables by kind and encoder, such as ``attention/moco_v3_seed0``, as files."""
    return [f"{TABLE_FOLDER}/{name}.parquet" for name in names]


def task_inputs(task):
    """A task's images, checked first where something is trained on them, the encoder, and files of other rules."""
    files = {"data": f"{RESULTS}/data/{task.data}/manifest.json", "encoder": encoder_of}
    if task.train is not None:
        files["checked"] = ancient(f"{RESULTS}/checks/{task.data}.json")
    return files | {option: f"{RESULTS}/{path}" for option, path in task.inputs.items()}


def task_outputs(task):
    """Its further files by option of the command, then its tables."""
    files = {option: f"{RESULTS}/{path}" for option, path in task.files.items()}
    return files | {f"{table}_table": f"{TABLE_FOLDER}/{table}/{{run}}.parquet" for table in task.tables}


def task_options(task):
    """Wildcards, inputs and outputs of a job -> the options of the task's command."""

    def options(wildcards, input, output):
        given = {"config": CONFIG, "run": wildcards.run, "data": Path(input.data).parent / task.part}
        given["tables"] = TABLE_FOLDER
        if task.train is not None:
            given["runs"] = f"{RESULTS}/runs"
        if input.encoder:
            given["encoder"] = input.encoder
        for option in task.inputs:  # a data set is given as its folder
            path = Path(input[option])
            given[option] = path.parent if path.name == "manifest.json" else path
        given |= {option: f"{RESULTS}/{folder}" for option, folder in task.folders.items()}
        given |= {option: output[option] for option in task.files}
        if task.verb == "transfer":
            given["task"] = task.name
        return [str(word) for option, value in given.items() for word in (f"--{option.replace('_', '-')}", value)]

    return options


def task_decided(task):
    """Wildcards of a job -> what decides its tables."""
    return lambda wildcards: task_command(task).decided(STUDY, wildcards.run)


def other_claims():
    """The claims of other studies: of folders that are named as a study may be, and of no others."""
    found = {path for path in Path("results").glob("*/claims.json") if re.fullmatch(NAME, path.parent.name)}
    return found - {Path(RESULTS, "claims.json")}
