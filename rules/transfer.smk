# What encoders are good for. One pass of an encoder over the data set caches the features of all depths; one training
# fits the probes of all depths, poolings, learning rates and kinds of label.


rule linear_probe:
    input:
        data=OBJECTS,
        encoder=encoder_of,
    output:
        table=f"{RESULTS}/tables/linear_probe/{{run}}.parquet",
        selection=f"{RESULTS}/tables/linear_probe_selection/{{run}}.parquet",
        probes=f"{RESULTS}/probes/{{run}}.safetensors",
    params:
        config=CONFIG,
        subject=subject_of,
        cache=f"{RESULTS}/features",
        encoder_settings=lambda wildcards: settings_of(wildcards.run),
        settings=[STUDY.analysis.sample_digest(), sections_digest(STUDY.analysis.probe)],
        code=code_digest("cl_vs_mim.transfer.linear_probe"),
    log:
        f"{RESULTS}/logs/linear_probe/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/linear_probe/{{run}}.tsv"
    threads: STUDY.compute.analysis_threads
    shell:
        "python -m cl_vs_mim.transfer.linear_probe --config {params.config} {params.subject} --threads {threads}"
        " --cache {params.cache}"
        " --output {output.table} --selection {output.selection} --probes {output.probes} 2>&1 | tee {log}"


# Cue-conflict and noisy images, read by the probe of the last block.
rule robustness:
    input:
        data=OBJECTS,
        cues=f"{RESULTS}/data/cue_conflict/manifest.json",
        probes=f"{RESULTS}/probes/{{run}}.safetensors",
        encoder=encoder_of,
    output:
        expand(f"{RESULTS}/tables/{{kind}}/{{{{run}}}}.parquet", kind=["cue_conflict", "noise"]),
    params:
        config=CONFIG,
        subject=subject_of,
        cues=cues_of,
        tables=lambda wildcards, output: Path(output[0]).parent.parent,
        encoder_settings=lambda wildcards: settings_of(wildcards.run),
        settings=[STUDY.analysis.sample_digest(), sections_digest(STUDY.analysis.robustness)],
        code=code_digest("cl_vs_mim.transfer.robustness"),
    log:
        f"{RESULTS}/logs/robustness/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/robustness/{{run}}.tsv"
    threads: STUDY.compute.analysis_threads
    shell:
        "python -m cl_vs_mim.transfer.robustness --config {params.config} {params.subject} --threads {threads}"
        " --probes {input.probes} {params.cues} --tables {params.tables} --run {wildcards.run}"
        " 2>&1 | tee {log}"
