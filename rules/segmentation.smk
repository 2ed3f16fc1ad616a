# UPerNet on encoders, on scenes laid out as ADE20K: the pair of the main figures and the controls of its architectures.

SEGMENTATION = getattr(TRANSFER, "segmentation", None)

if SEGMENTATION is not None:

    rule segmentation:
        input:
            data=f"{RESULTS}/data/scenes/manifest.json",
            checked=ancient(f"{RESULTS}/checks/scenes.json"),
            encoder=encoder_of,
        output:
            picture=f"{RESULTS}/pictures/segmentation/{{run}}.png",
            table=f"{RESULTS}/tables/segmentation/{{run}}.parquet",
        params:
            config=CONFIG,
            subject=lambda wildcards, input: subject_of(wildcards, input, "ade20k"),
            runs=f"{RESULTS}/runs",
            encoder_settings=lambda wildcards: settings_of(wildcards.run),
            settings=sections_digest(SEGMENTATION),
            code=code_digest("cl_vs_mim.transfer.segmentation.command"),
        log:
            f"{RESULTS}/logs/segmentation/{{run}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/segmentation/{{run}}.tsv"
        wildcard_constraints:
            run="|".join(PAIR),
        threads: STUDY.compute.training_threads
        shell:
            "python -m cl_vs_mim.transfer.segmentation --config {params.config} {params.subject} --runs {params.runs}"
            " --threads {threads} --picture {output.picture} --output {output.table} 2>&1 | tee {log}"
