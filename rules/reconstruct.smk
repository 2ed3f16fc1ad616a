# What the decoders of masked image modelling paint, and their frequencies.


rule reconstruct:
    input:
        data=OBJECTS,
        encoder=encoder_of,
    output:
        expand(f"{RESULTS}/tables/{{kind}}/{{{{run}}}}.parquet", kind=["reconstruction", "decoder_fourier"]),
    params:
        config=CONFIG,
        subject=subject_of,
        tables=lambda wildcards, output: Path(output[0]).parent.parent,
        settings=[STUDY.analysis.sample_digest(), sections_digest(STUDY.analysis.reconstruction)],
        encoder_settings=lambda wildcards: settings_of(wildcards.run),
        code=code_digest("cl_vs_mim.analysis.reconstruct"),
    log:
        f"{RESULTS}/logs/reconstruct/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/reconstruct/{{run}}.tsv"
    threads: STUDY.compute.analysis_threads
    wildcard_constraints:
        run="|".join(DECODED),
    conda:
        "../environment.yml"
    shell:
        "python -m cl_vs_mim.analysis.reconstruct --config {params.config} {params.subject} --threads {threads}"
        " --tables {params.tables} --run {wildcards.run} 2>&1 | tee {log}"
