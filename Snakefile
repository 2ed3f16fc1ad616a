# What Do Self-Supervised Vision Transformers Learn? — from raw data to every figure.
#
#   snakemake --cores all figures/fig3.pdf                     Figure 3 of the default study
#   snakemake --cores all --config study=smoke                 everything, at the smallest scale
#
# A study is one file of config/.

import re

from snakemake.utils import min_version

min_version("9.0")


include: "rules/common.smk"


wildcard_constraints:
    run="|".join(RUNS | TRAINED),
    dataset="|".join(DATASETS),


include: "rules/data.smk"
include: "rules/pretrain.smk"
include: "rules/analysis.smk"
include: "rules/transfer.smk"
include: "rules/figures.smk"
include: "rules/tables.smk"
include: "rules/shown.smk"
include: "rules/audit.smk"


rule all:
    default_target: True
    input:
        rules.figures.input,
        rules.tables.input,
        rules.audit.input,
        rules.data.input,
        rules.study.output,


# Said once for all rules: one line tells what a job makes and of which encoder, data set or figure; and the environment
# that `--sdm conda` makes for it, which environment.post-deploy.sh fills from the lock.
for each in workflow.rules:
    each.message = each.message or "{rule} {wildcards}"
    if each.shellcmd:
        # braces of the clone's path are no wildcards
        each.conda_env = re.sub(r"[{}]", r"\g<0>\g<0>", str(Path(workflow.basedir) / "environment.yml"))


# What people read (figures, tables, the page) is `update`: a failed job leaves the old one in its place.
onerror:
    out_of_date(workflow.dag)


onsuccess:
    print(f"Study {STUDY.study}: figures in figures/, tables in tables/, the page in {RESULTS}/report.html")
