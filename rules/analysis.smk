# One pass of an encoder serves all metrics. Trained encoders come from rules/pretrain.smk, the untrained controls from
# their architecture and seed alone.


rule extract:
    input:
        data=f"{RESULTS}/data/objects/manifest.json",
        encoder=lambda wildcards: (
            f"{RESULTS}/encoders/{wildcards.run}.safetensors" if wildcards.run in TRAINED else []
        ),
    output:
        attention=f"{RESULTS}/tables/attention/{{run}}.parquet",
        maps=f"{RESULTS}/tables/attention_maps/{{run}}.parquet",
        image=f"{RESULTS}/tables/attention_image/{{run}}.parquet",
    params:
        config=CONFIG,
        model=lambda wildcards: RUNS[wildcards.run][0],
        seed=lambda wildcards: RUNS[wildcards.run][1],
        data=lambda wildcards, input: Path(input.data).parent,
        encoder=lambda wildcards, input: f"--encoder {input.encoder}" if input.encoder else "",
        encoder_settings=lambda wildcards: settings_of(wildcards.run),
        settings=[STUDY.analysis.sample_digest(), sections_digest(STUDY.figures.attention_maps)],
        code=code_digest("encoder", "spec", "checkpoints", "analysis", "data.images"),
    log:
        f"{RESULTS}/logs/extract/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/extract/{{run}}.tsv"
    threads: STUDY.compute.analysis_threads
    conda:
        "../environment.yml"
    shell:
        "python -m cl_vs_mim.analysis.extract --config {params.config} --model {params.model} --seed {params.seed}"
        " {params.encoder} --data {params.data} --threads {threads}"
        " --output {output.attention} --maps {output.maps} --image {output.image} 2>&1 | tee {log}"
