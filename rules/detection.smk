# Mask R-CNN on encoders, on scenes laid out as COCO: the pair of the main figures and the controls of its architectures.
# As with pre-training, the training state lives in results/<study>/runs/.

DETECTION = getattr(STUDY.transfer, "detection", None)

if DETECTION is not None:

    rule detection:
        input:
            data=f"{RESULTS}/data/scenes/manifest.json",
            encoder=encoder_of,
        output:
            table=f"{RESULTS}/tables/detection/{{run}}.parquet",
            picture=f"{RESULTS}/pictures/detection/{{run}}.png",
        params:
            config=CONFIG,
            model=lambda wildcards: RUNS[wildcards.run][0],
            seed=lambda wildcards: RUNS[wildcards.run][1],
            encoder=lambda wildcards, input: f"--encoder {input.encoder}" if input.encoder else "",
            data=lambda wildcards, input: Path(input.data).parent / "coco",
            runs=f"{RESULTS}/runs",
            encoder_settings=lambda wildcards: settings_of(wildcards.run),
            settings=sections_digest(DETECTION),
            code=code_digest("encoder", "spec", "checkpoints", "randomness", "transfer.dense", "transfer.detection"),
        log:
            f"{RESULTS}/logs/detection/{{run}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/detection/{{run}}.tsv"
        threads: STUDY.compute.training_threads
        wildcard_constraints:
            run="|".join(PAIR),
        conda:
            "../environment.yml"
        shell:
            "python -m cl_vs_mim.transfer.detection --config {params.config} --model {params.model} --seed {params.seed}"
            " {params.encoder} --data {params.data} --runs {params.runs} --threads {threads}"
            " --output {output.table} --picture {output.picture} 2>&1 | tee {log}"
