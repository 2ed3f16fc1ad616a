# What Do Self-Supervised Vision Transformers Learn? — from raw data to every figure.
#
#   snakemake --cores all figures/fig3.pdf                     Figure 3 of the default study
#   snakemake --cores all --config study=smoke                 everything, at the smallest scale
#
# A study is one file of config/; it is checked as a whole before any rule exists.

import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

from cl_vs_mim.config import load_study
from cl_vs_mim.errors import UserError
from cl_vs_mim.workflow import code_digest, control_runs, sections_digest, trained_runs

min_version("9.0")

# Rules call `python -m cl_vs_mim…`: it must be the Python that runs Snakemake, also when the environment is not active.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

CONFIG = f"config/{config.get('study', 'demo')}.yaml"
try:
    STUDY = load_study(Path(CONFIG))
except UserError as error:
    raise WorkflowError(str(error))

RESULTS = f"results/{STUDY.study}"
REFERENCE = "results/reference/reference_values.csv"
FIGURES = ["fig2", "fig3", "fig4"]
DATASETS = ["objects", "scenes", "cue_conflict"]
TRAINED = trained_runs(STUDY)  # "moco_v3_seed0" -> ("moco_v3", 0)
CONTROLS = control_runs(STUDY)  # "untrained_vit_seed0" -> ("untrained_vit", 0)
RUNS = TRAINED | CONTROLS


wildcard_constraints:
    run="|".join(RUNS),
    dataset="|".join(DATASETS),
    figure="|".join(FIGURES),


include: "rules/data.smk"
include: "rules/pretrain.smk"
include: "rules/analysis.smk"
include: "rules/figures.smk"


rule all:
    default_target: True
    input:
        rules.figures.input,
        rules.data.input,
