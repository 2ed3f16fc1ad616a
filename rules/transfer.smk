# What encoders are good for. One pass of an encoder over the data set caches the features of all depths; one training
# fits the probes of all depths, poolings, learning rates and kinds of label.


rule linear_probe:
    input:
        data=f"{RESULTS}/data/objects/manifest.json",
        encoder=lambda wildcards: (
            f"{RESULTS}/encoders/{wildcards.run}.safetensors" if wildcards.run in TRAINED else []
        ),
    output:
        table=f"{RESULTS}/tables/linear_probe/{{run}}.parquet",
        selection=f"{RESULTS}/tables/linear_probe_selection/{{run}}.parquet",
        probes=f"{RESULTS}/probes/{{run}}.safetensors",
    params:
        config=CONFIG,
        model=lambda wildcards: RUNS[wildcards.run][0],
        seed=lambda wildcards: RUNS[wildcards.run][1],
        data=lambda wildcards, input: Path(input.data).parent,
        encoder=lambda wildcards, input: f"--encoder {input.encoder}" if input.encoder else "",
        cache=f"{RESULTS}/features",
        encoder_settings=lambda wildcards: settings_of(wildcards.run),
        settings=[STUDY.analysis.sample_digest(), sections_digest(STUDY.analysis.probe)],
        code=code_digest(
            *("encoder", "spec", "checkpoints", "randomness", "analysis.subject", "data.images", "data.labels"),
            *("transfer.features", "transfer.fitting", "transfer.selection", "transfer.linear_probe"),
        ),
    log:
        f"{RESULTS}/logs/linear_probe/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/linear_probe/{{run}}.tsv"
    threads: STUDY.compute.analysis_threads
    conda:
        "../environment.yml"
    shell:
        "python -m cl_vs_mim.transfer.linear_probe --config {params.config} --model {params.model} --seed {params.seed}"
        " {params.encoder} --data {params.data} --threads {threads} --cache {params.cache}"
        " --output {output.table} --selection {output.selection} --probes {output.probes} 2>&1 | tee {log}"
