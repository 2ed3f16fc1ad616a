# Results as tables for people: Table 1 of the methods, Table 2 of the hybrids.

from cl_vs_mim.figures import result_tables


rule table:
    input:
        lambda wildcards: read_by(result_tables.reads(wildcards.table, STUDY)),
    output:
        csv=update(f"{RESULTS}/summary/{{table}}.csv"),
        md=update(f"{RESULTS}/summary/{{table}}.md"),
        tex=update(f"{RESULTS}/summary/{{table}}.tex"),
    params:
        config=CONFIG,
        tables=TABLE_FOLDER,
        reference=REFERENCE,
        decided=lambda wildcards: COMMAND["table"].decided(STUDY, wildcards.table),
    log:
        f"{RESULTS}/logs/tables/{{table}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/tables/{{table}}.tsv"
    wildcard_constraints:
        table="|".join(result_tables.TABLES),
    shell:
        "cl-vs-mim table {wildcards.table:q} --config {params.config:q} --tables {params.tables:q}"
        " --reference {params.reference:q} --output {output.csv:q} 2>&1 | tee {log:q}"


rule tables:
    input:
        expand("tables/{table}.{kind}", table=result_tables.tables_of(STUDY), kind=["csv", "md", "tex"]),
