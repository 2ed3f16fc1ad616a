# Mask R-CNN on encoders, on scenes laid out as COCO: the pair of the main figures and the controls of its architectures.
# As with pre-training, the training state lives in results/<study>/runs/.

DETECTION = getattr(TRANSFER, "detection", None)

if DETECTION is not None:

    rule detection:
        input:
            data=f"{RESULTS}/data/scenes/manifest.json",
            checked=ancient(f"{RESULTS}/checks/scenes.json"),
            encoder=encoder_of,
        output:
            table=f"{RESULTS}/tables/detection/{{run}}.parquet",
            picture=f"{RESULTS}/pictures/detection/{{run}}.png",
        params:
            config=CONFIG,
            subject=lambda wildcards, input: subject_of(wildcards, input, "coco"),
            runs=f"{RESULTS}/runs",
            encoder_settings=lambda wildcards: settings_of(wildcards.run),
            settings=sections_digest(DETECTION),
            code=code_digest("cl_vs_mim.transfer.detection.command"),
        log:
            f"{RESULTS}/logs/detection/{{run}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/detection/{{run}}.tsv"
        threads: STUDY.compute.training_threads
        wildcard_constraints:
            run="|".join(PAIR),
        shell:
            "python -m cl_vs_mim.transfer.detection --config {params.config} {params.subject} --runs {params.runs}"
            " --threads {threads}"
            " --output {output.table} --picture {output.picture} 2>&1 | tee {log}"
