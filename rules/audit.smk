# Every claim of config/claims.yaml, judged by the tables of the study. The page for readers is still to come.


rule audit:
    input:
        claims="config/claims.yaml",
        tables=AUDITED,
    output:
        f"{RESULTS}/claims.json",
    params:
        config=CONFIG,
        tables=lambda wildcards, input: Path(input.tables[0]).parent.parent,
        settings=sections_digest(STUDY.figures),
        code=code_digest("audit"),
    log:
        f"{RESULTS}/logs/audit.log",
    benchmark:
        f"{RESULTS}/benchmarks/audit.tsv"
    conda:
        "../environment.yml"
    shell:
        "python -m cl_vs_mim.audit --config {params.config} --claims {input.claims} --tables {params.tables}"
        " --output {output} 2>&1 | tee {log}"
