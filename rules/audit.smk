# Every claim of config/claims.yaml, judged by the tables of the study: for programs (claims.json) and for readers
# (report.html), with the study's figures, which are drawn first.

from glob import glob

AUDITED = [*classified("finetuning"), *classified("augmented_probe"), *dense("detection"), *dense("segmentation")]
for kind in ("attention", "diversity", "fourier", "image_spectrum", "movement", "token_spectrum"):
    AUDITED += tables(kind)
for kind in ("cue_conflict", "noise", "embedding_purity"):
    AUDITED += tables(kind, PAIR)
AUDITED += tables("linear_probe", METHODS) + tables("decoder_fourier", DECODED)
AUDITED += [
    f"{RESULTS}/tables/grid{grid}/{kind}/{run}.parquet"
    for grid in STUDY.analysis.grids
    for kind in MEASURED
    for run in PAIR
]
try:
    CLAIMED_FIGURES = [figure for figure in claimed_figures(Path("config/claims.yaml")) if figure in FIGURES]
except UserError as error:
    raise WorkflowError(str(error))


rule audit:
    input:
        f"{RESULTS}/report.html",
        "figures/STUDY",  # pictures of another study do not stand beside this one's page


rule claims:
    input:
        claims="config/claims.yaml",
        reference=REFERENCE,
        tables=AUDITED,
    output:
        claims=f"{RESULTS}/claims.json",
        schema=f"{RESULTS}/claims.schema.json",
    params:
        config=CONFIG,
        tables=lambda wildcards, input: Path(input.tables[0]).parent.parent,
        settings=sections_digest(STUDY.figures),
        study=[STUDY.title, STUDY.reduced, STUDY.expect.result],
        code=code_digest("cl_vs_mim.audit.__main__"),
    log:
        f"{RESULTS}/logs/audit/claims.log",
    benchmark:
        f"{RESULTS}/benchmarks/audit/claims.tsv"
    shell:
        "python -m cl_vs_mim.audit --config {params.config} --claims {input.claims} --tables {params.tables}"
        " --reference {input.reference} --output {output.claims} --schema {output.schema} 2>&1 | tee {log}"


# Other studies whose audit is at hand (shipped ones, or built here before) stand beside this one.
rule audit_report:
    input:
        claims=f"{RESULTS}/claims.json",
        figures=expand(f"{RESULTS}/figures/{{figure}}.png", figure=CLAIMED_FIGURES),
        others=sorted(path for path in glob("results/*/claims.json") if path != f"{RESULTS}/claims.json"),
    output:
        report(f"{RESULTS}/report.html", caption="../report/audit.rst", category="Audit"),
    params:
        others=lambda wildcards, input: f"--others {' '.join(input.others)}" if input.others else "",
        code=code_digest("cl_vs_mim.audit.report"),
        template=folder_digest("audit/templates"),
    log:
        f"{RESULTS}/logs/audit/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/audit/report.tsv"
    shell:
        "python -m cl_vs_mim.audit.report --claims {input.claims} --figures {input.figures} {params.others}"
        " --output {output} 2>&1 | tee {log}"


# A page of the documentation, with numbers of one study; run after that study has changed, and committed.
if STUDY.study == DOCUMENTED:

    rule pitfalls_page:
        input:
            tables=AUDITED,
        output:
            "docs/pitfalls.md",
        params:
            config=CONFIG,
            tables=lambda wildcards, input: Path(input.tables[0]).parent.parent,
            code=code_digest("cl_vs_mim.audit.pitfalls"),
            template=folder_digest("audit/templates"),
        log:
            f"{RESULTS}/logs/audit/pitfalls.log",
        benchmark:
            f"{RESULTS}/benchmarks/audit/pitfalls.tsv"
        shell:
            "python -m cl_vs_mim.audit.pitfalls --config {params.config} --tables {params.tables} --output {output}"
            " 2>&1 | tee {log}"
