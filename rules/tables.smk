# Results as tables for people: Table 1 of the methods, Table 2 of the hybrids.

rule table:
    input:
        unpack(results_of),
        reference=REFERENCE,
    output:
        csv="tables/{table}.csv",
        md="tables/{table}.md",
        tex="tables/{table}.tex",
    params:
        config=CONFIG,
        inputs=lambda wildcards: " ".join(
            f"--{kind}-tables {' '.join(paths)}" for kind, paths in results_of(wildcards).items() if paths
        ),
        code=code_digest("cl_vs_mim.figures.result_tables"),
    log:
        f"{RESULTS}/logs/tables/{{table}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/tables/{{table}}.tsv"
    wildcard_constraints:
        table="|".join(TABLES),
    conda:
        "../environment.yml"
    shell:
        "python -m cl_vs_mim.figures.result_tables --config {params.config} {params.inputs} --reference {input.reference}"
        " --output {output.csv} 2>&1 | tee {log}"


rule tables:
    input:
        expand("tables/{table}.{kind}", table=TABLES, kind=["csv", "md", "tex"]) if classified("finetuning") else [],
