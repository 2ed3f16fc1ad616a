# One pass of an encoder serves all metrics of Figures 2 to 8. Trained encoders come from rules/pretrain.smk, the
# untrained controls from their architecture and seed alone.

from cl_vs_mim.analysis.layouts import EMBEDDED, EXTRACTED, RECONSTRUCTED
from cl_vs_mim.metrics.layouts import MEASURED


rule extract:
    input:
        data=OBJECTS,
        encoder=encoder_of,
    output:
        expand(f"{RESULTS}/tables/{{kind}}/{{{{run}}}}.parquet", kind=EXTRACTED),
    params:
        options=encoder_options,
        tables=lambda wildcards: TABLE_FOLDER,
        decided=lambda wildcards: COMMAND["extract"].decided(STUDY, wildcards.run),
    log:
        f"{RESULTS}/logs/extract/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/extract/{{run}}.tsv"
    threads: STUDY.compute.analysis_threads
    shell:
        "cl-vs-mim extract {params.options:q} --threads {threads} --tables {params.tables:q} 2>&1 | tee {log:q}"


# The pair again on images of other sizes: one of the free choices that the audit varies.
rule extract_grid:
    input:
        data=OBJECTS,
        encoder=encoder_of,
    output:
        expand(f"{RESULTS}/tables/grid{{{{grid}}}}/{{kind}}/{{{{run}}}}.parquet", kind=MEASURED),
    params:
        options=encoder_options,
        tables=lambda wildcards: TABLE_FOLDER,
        decided=lambda wildcards: COMMAND["extract"].decided(STUDY, f"grid{wildcards.grid}/{wildcards.run}"),
    log:
        f"{RESULTS}/logs/extract_grid{{grid}}/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/extract_grid{{grid}}/{{run}}.tsv"
    threads: STUDY.compute.analysis_threads
    wildcard_constraints:
        grid=r"\d+",
    shell:
        "cl-vs-mim extract {params.options:q} --grid {wildcards.grid:q} --threads {threads}"
        " --tables {params.tables:q} 2>&1 | tee {log:q}"


if "finetuning" in TASKS:

    # What fine-tuning made of an encoder, by the same pass as before it.
    rule extract_finetuned:
        input:
            data=OBJECTS,
            encoder=f"{RESULTS}/finetuned/{{run}}.safetensors",
        output:
            expand(f"{RESULTS}/tables/finetuned/{{kind}}/{{{{run}}}}.parquet", kind=EXTRACTED),
        params:
            options=encoder_options,
            tables=lambda wildcards: f"{TABLE_FOLDER}/finetuned",
            decided=lambda wildcards: COMMAND["extract"].decided(STUDY, f"finetuned/{wildcards.run}"),
        log:
            f"{RESULTS}/logs/extract_finetuned/{{run}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/extract_finetuned/{{run}}.tsv"
        threads: STUDY.compute.analysis_threads
        shell:
            "cl-vs-mim extract {params.options:q} --stage finetuned --threads {threads}"
            " --tables {params.tables:q} 2>&1 | tee {log:q}"


rule embedding:
    input:
        data=OBJECTS,
        encoder=encoder_of,
    output:
        expand(f"{RESULTS}/tables/{{kind}}/{{{{run}}}}.parquet", kind=EMBEDDED),
    params:
        options=encoder_options,
        tables=lambda wildcards: TABLE_FOLDER,
        decided=lambda wildcards: COMMAND["embedding"].decided(STUDY, wildcards.run),
    log:
        f"{RESULTS}/logs/embedding/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/embedding/{{run}}.tsv"
    threads: STUDY.compute.analysis_threads
    shell:
        "cl-vs-mim embedding {params.options:q} --threads {threads} --tables {params.tables:q} 2>&1 | tee {log:q}"


# What the decoders of masked image modelling paint, and their frequencies.
rule reconstruct:
    input:
        data=OBJECTS,
        encoder=encoder_of,
    output:
        expand(f"{RESULTS}/tables/{{kind}}/{{{{run}}}}.parquet", kind=RECONSTRUCTED),
    params:
        options=encoder_options,
        tables=lambda wildcards: TABLE_FOLDER,
        decided=lambda wildcards: COMMAND["reconstruct"].decided(STUDY, wildcards.run),
    log:
        f"{RESULTS}/logs/reconstruct/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/reconstruct/{{run}}.tsv"
    threads: STUDY.compute.analysis_threads
    wildcard_constraints:
        run="|".join(DECODED),
    shell:
        "cl-vs-mim reconstruct {params.options:q} --threads {threads} --tables {params.tables:q} 2>&1 | tee {log:q}"
