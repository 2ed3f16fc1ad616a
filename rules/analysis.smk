# One pass of an encoder serves all metrics of Figures 2 to 8. Trained encoders come from rules/pretrain.smk, the
# untrained controls from their architecture and seed alone.

from cl_vs_mim.analysis.card import KINDS as CARD_KINDS
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


# Encoders that were kept while they trained lie in the run folder, which is no output of a rule.
rule snapshots:
    input:
        data=OBJECTS,
        encoder=f"{RESULTS}/encoders/{{run}}.safetensors",
        log=f"{TABLE_FOLDER}/training/{{run}}.csv",
    output:
        f"{TABLE_FOLDER}/snapshots/{{run}}.parquet",
    params:
        config=CONFIG,
        data=lambda wildcards, input: Path(input.data).parent,
        runs=f"{RESULTS}/runs",
        tables=TABLE_FOLDER,
        decided=lambda wildcards: COMMAND["snapshots"].decided(STUDY, wildcards.run),
    log:
        f"{RESULTS}/logs/snapshots/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/snapshots/{{run}}.tsv"
    threads: STUDY.compute.analysis_threads
    wildcard_constraints:
        run="|".join(PRETRAINED) or "none",
    shell:
        "cl-vs-mim snapshots --config {params.config:q} --run {wildcards.run:q} --runs {params.runs:q}"
        " --data {params.data:q} --tables {params.tables:q} --log-table {input.log:q} --threads {threads} 2>&1 | tee {log:q}"


# The card of an encoder that is handed on, with its numbers; a tokenizer has none.
rule card:
    input:
        weights=f"{WEIGHTS}/{{run}}.safetensors",
        tables=lambda wildcards: table_files([f"{kind}/{wildcards.run}" for kind in CARD_KINDS if wildcards.run in RUNS]),
    output:
        f"{WEIGHTS}/{{run}}.md",
    params:
        config=CONFIG,
        tables=TABLE_FOLDER,
        decided=lambda wildcards: COMMAND["card"].decided(STUDY, wildcards.run),
    log:
        f"{RESULTS}/logs/card/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/card/{{run}}.tsv"
    wildcard_constraints:
        run="|".join(HANDED_ON) or "none",
    shell:
        "cl-vs-mim card --config {params.config:q} --run {wildcards.run:q} --weights {input.weights:q}"
        " --tables {params.tables:q} --output {output:q} 2>&1 | tee {log:q}"
