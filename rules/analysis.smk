# One pass of an encoder serves all metrics of Figures 2 to 8. Trained encoders come from rules/pretrain.smk, the
# untrained controls from their architecture and seed alone.

EXTRACTED = [
    "attention",
    "attention_maps",
    "attention_image",
    "diversity",
    "movement",
    "movement_tokens",
    "token_spectrum",
    "image_spectrum",
    "fourier",
]


rule extract:
    input:
        data=OBJECTS,
        encoder=encoder_of,
    output:
        expand(f"{RESULTS}/tables/{{kind}}/{{{{run}}}}.parquet", kind=EXTRACTED),
    params:
        config=CONFIG,
        subject=subject_of,
        tables=lambda wildcards, output: Path(output[0]).parent.parent,
        settings=[
            STUDY.analysis.sample_digest(),
            sections_digest(
                STUDY.analysis.spectrum,
                STUDY.analysis.movement,
                STUDY.figures.attention_maps,
                STUDY.figures.bootstrap,
            ),
        ],
        encoder_settings=lambda wildcards: settings_of(wildcards.run),
        code=code_digest("cl_vs_mim.analysis.extract"),
    log:
        f"{RESULTS}/logs/extract/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/extract/{{run}}.tsv"
    threads: STUDY.compute.analysis_threads
    conda:
        "../environment.yml"
    shell:
        "python -m cl_vs_mim.analysis.extract --config {params.config} {params.subject} --threads {threads}"
        " --tables {params.tables} --run {wildcards.run} 2>&1 | tee {log}"


MEASURED = ["attention", "diversity", "movement", "token_spectrum", "image_spectrum", "fourier"]


# The pair again on images of other sizes: one of the free choices that the audit varies.
rule extract_grid:
    input:
        data=OBJECTS,
        encoder=encoder_of,
    output:
        expand(f"{RESULTS}/tables/grid{{{{grid}}}}/{{kind}}/{{{{run}}}}.parquet", kind=MEASURED),
    params:
        config=CONFIG,
        subject=subject_of,
        tables=lambda wildcards, output: Path(output[0]).parent.parent.parent,
        settings=[
            STUDY.analysis.sample_digest(),
            sections_digest(STUDY.analysis.spectrum, STUDY.figures.bootstrap),
        ],
        encoder_settings=lambda wildcards: settings_of(wildcards.run),
        code=rules.extract.params.code,
    log:
        f"{RESULTS}/logs/extract_grid{{grid}}/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/extract_grid{{grid}}/{{run}}.tsv"
    threads: STUDY.compute.analysis_threads
    wildcard_constraints:
        grid=r"\d+",
    conda:
        "../environment.yml"
    shell:
        "python -m cl_vs_mim.analysis.extract --config {params.config} {params.subject} --threads {threads}"
        " --tables {params.tables} --run {wildcards.run} --grid {wildcards.grid} 2>&1 | tee {log}"


rule embedding:
    input:
        data=OBJECTS,
        encoder=encoder_of,
    output:
        expand(f"{RESULTS}/tables/{{kind}}/{{{{run}}}}.parquet", kind=["embedding", "embedding_purity"]),
    params:
        config=CONFIG,
        subject=subject_of,
        tables=lambda wildcards, output: Path(output[0]).parent.parent,
        settings=[STUDY.analysis.crop_fraction, sections_digest(STUDY.analysis.embedding)],
        encoder_settings=lambda wildcards: settings_of(wildcards.run),
        code=code_digest("cl_vs_mim.analysis.embedding"),
    log:
        f"{RESULTS}/logs/embedding/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/embedding/{{run}}.tsv"
    threads: STUDY.compute.analysis_threads
    conda:
        "../environment.yml"
    shell:
        "python -m cl_vs_mim.analysis.embedding --config {params.config} {params.subject} --threads {threads}"
        " --tables {params.tables} --run {wildcards.run} 2>&1 | tee {log}"
