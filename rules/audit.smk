# Every claim of config/claims.yaml, judged by the tables of the study: for programs (claims.json) and for readers
# (report.html), with the study's figures, which are drawn first. Which tables and figures that needs, the claims say.

from cl_vs_mim.audit import pitfalls
from cl_vs_mim.audit.claims import claimed_figures, load_claims
from cl_vs_mim.audit.reads import tables_of_claims, tables_of_contrasts

CLAIM_FILE = "config/claims.yaml"
REGISTERED = "config/preregistration.yaml"
try:
    CLAIMED = load_claims(Path(CLAIM_FILE))
except UserError as error:
    raise WorkflowError(str(error))


rule audit:
    input:
        f"{RESULTS}/report.html",
        "figures/STUDY",  # so that no pictures of another study remain beside this page


rule claims:
    input:
        claims=CLAIM_FILE,
        reference=REFERENCE,
        registered=REGISTERED,
        tables=table_files(tables_of_claims(CLAIMED, STUDY)),
    output:
        claims=update(f"{RESULTS}/claims.json"),
        schema=update(f"{RESULTS}/claims.schema.json"),
    params:
        config=CONFIG,
        tables=lambda wildcards: TABLE_FOLDER,
        decided=lambda wildcards: COMMAND["claims"].decided(STUDY, STUDY.study),
    log:
        f"{RESULTS}/logs/audit/claims.log",
    benchmark:
        f"{RESULTS}/benchmarks/audit/claims.tsv"
    shell:
        "cl-vs-mim claims --config {params.config:q} --claims {input.claims:q} --tables {params.tables:q}"
        " --reference {input.reference:q} --registered {input.registered:q} --output {output.claims:q} 2>&1 | tee {log:q}"


# How often the rules of the verdict err; the table is drawn on the page.
rule audit_rates:
    input:
        claims=ancient(CLAIM_FILE),
    output:
        f"{RESULTS}/audit_rates.csv",
    params:
        asked=lambda wildcards: CLAIMED.simulation.model_dump(mode="json"),
        decided=lambda wildcards: COMMAND["audit-rates"].decided(STUDY, STUDY.study),
    log:
        f"{RESULTS}/logs/audit/rates.log",
    benchmark:
        f"{RESULTS}/benchmarks/audit/rates.tsv"
    shell:
        "cl-vs-mim audit-rates --claims {input.claims:q} --output {output:q} 2>&1 | tee {log:q}"


# The page also shows other studies whose audit is there: shipped, or built here before.
rule audit_report:
    input:
        claims=f"{RESULTS}/claims.json",
        figures=expand(f"{RESULTS}/figures/{{figure}}.png", figure=[one for one in claimed_figures(CLAIMED) if one in FIGURES]),
        rates=f"{RESULTS}/audit_rates.csv",
        others=sorted(map(str, other_claims())),
    output:
        report(update(f"{RESULTS}/report.html"), caption="../report/audit.rst", category="Audit"),
    params:
        decided=lambda wildcards: COMMAND["report"].decided(STUDY, STUDY.study),
    log:
        f"{RESULTS}/logs/audit/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/audit/report.tsv"
    shell:
        "cl-vs-mim report --claims {input.claims:q} --figures {input.figures:q} --others {input.others:q} --rates {input.rates:q}"
        " --output {output:q} 2>&1 | tee {log:q}"


# A page of the documentation, with numbers of one study; run after that study has changed, and committed.
if STUDY.study == DOCUMENTED:

    rule audit_rates_page:
        input:
            claims=CLAIM_FILE,
            paper="config/paper.yaml",
            reference=REFERENCE,
            rates=f"{RESULTS}/audit_rates.csv",
        output:
            "docs/audit_rates.md",
        params:
            decided=lambda wildcards: COMMAND["audit-rates-page"].decided(STUDY, STUDY.study),
        log:
            f"{RESULTS}/logs/audit/rates_page.log",
        benchmark:
            f"{RESULTS}/benchmarks/audit/rates_page.tsv"
        shell:
            "cl-vs-mim audit-rates-page --rates {input.rates:q} --claims {input.claims:q} --paper {input.paper:q}"
            " --reference {input.reference:q} --output {output:q} 2>&1 | tee {log:q}"

    rule pitfalls_page:
        input:
            table_files(tables_of_contrasts(pitfalls.contrasts(STUDY).values(), STUDY)),
        output:
            update("docs/pitfalls.md"),
        params:
            config=CONFIG,
            tables=lambda wildcards: TABLE_FOLDER,
            decided=lambda wildcards: COMMAND["pitfalls"].decided(STUDY, STUDY.study),
        log:
            f"{RESULTS}/logs/audit/pitfalls.log",
        benchmark:
            f"{RESULTS}/benchmarks/audit/pitfalls.tsv"
        shell:
            "cl-vs-mim pitfalls --config {params.config:q} --tables {params.tables:q} --output {output:q} 2>&1 | tee {log:q}"

    rule findings_page:
        input:
            f"{RESULTS}/claims.json",
        output:
            update("docs/findings.md"),
        params:
            decided=lambda wildcards: COMMAND["findings"].decided(STUDY, STUDY.study),
        log:
            f"{RESULTS}/logs/audit/findings.log",
        benchmark:
            f"{RESULTS}/benchmarks/audit/findings.tsv"
        shell:
            "cl-vs-mim findings --claims {input:q} --output {output:q} 2>&1 | tee {log:q}"
