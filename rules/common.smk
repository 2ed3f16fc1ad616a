# The study, checked as a whole before any rule exists, and what several rules ask of it.

import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from cl_vs_mim.config import load_study
from cl_vs_mim.errors import UserError
from cl_vs_mim.workflow import TRAINING_CODE, code_digest, control_runs, sections_digest, trained_runs

# Rules call `python -m cl_vs_mim…`: it must be the Python that runs Snakemake, also when the environment is not active.
shell.prefix(f'export PATH="{Path(sys.executable).parent}:$PATH"; ')

CONFIG = f"config/{config.get('study', 'demo')}.yaml"
try:
    STUDY = load_study(Path(CONFIG))
except UserError as error:
    raise WorkflowError(str(error))

RESULTS = f"results/{STUDY.study}"
REFERENCE = "results/reference/reference_values.csv"
FIGURES = ["fig2", "fig3", "fig4", "fig10"]
if "category" in STUDY.analysis.probe.labels:  # an ordinary ImageFolder has none
    FIGURES.append("appendix_coarse")
DATASETS = ["objects", "scenes", "cue_conflict"]
TRAINED = trained_runs(STUDY)  # "moco_v3_seed0" -> ("moco_v3", 0)
CONTROLS = control_runs(STUDY)  # "untrained_vit_seed0" -> ("untrained_vit", 0)
RUNS = TRAINED | CONTROLS


def settings_of(run):
    """Digest of the configuration that decides an encoder."""
    if run in CONTROLS:
        return sections_digest(STUDY.architectures[STUDY.controls()[RUNS[run][0]]])
    model = STUDY.models[RUNS[run][0]]
    return sections_digest(model, STUDY.architectures[model.architecture])


def tables(kind):
    """One table of this kind for every encoder, trained and untrained."""
    return [f"{RESULTS}/tables/{kind}/{run}.parquet" for run in RUNS]


def written(figure):
    """The three files of a figure; the PDF goes into the report."""
    caption = f"../report/{figure}.rst"
    return {
        "pdf": report(f"figures/{figure}.pdf", caption=caption, category="Figures", labels={"figure": figure}),
        "png": f"figures/{figure}.png",
        "csv": f"figures/{figure}.csv",
    }
