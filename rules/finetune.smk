# Classifiers made of encoders: all weights trained on labels (protocol finetuning), or one layer on the frozen encoder
# and augmented images (protocol augmented_probe). Their training state lives in results/<study>/runs/, as that of pre-training.

if "finetuning" in DONE:

    rule finetune:
        input:
            data=OBJECTS,
            checked=ancient(f"{RESULTS}/checks/objects.json"),
            encoder=encoder_of,
        output:
            tuned=f"{RESULTS}/finetuned/{{run}}.safetensors",
            log_table=f"{RESULTS}/tables/finetuning_log/{{run}}.csv",
            table=f"{RESULTS}/tables/finetuning/{{run}}.parquet",
        params:
            config=CONFIG,
            subject=subject_of,
            runs=f"{RESULTS}/runs",
            encoder_settings=lambda wildcards: settings_of(wildcards.run),
            settings=sections_digest(TRANSFER.finetuning),
            code=code_digest("cl_vs_mim.transfer.finetune"),
        log:
            f"{RESULTS}/logs/finetune/{{run}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/finetune/{{run}}.tsv"
        threads: STUDY.compute.training_threads
        shell:
            "python -m cl_vs_mim.transfer.finetune --protocol finetuning --config {params.config} {params.subject}"
            " --runs {params.runs} --threads {threads} --tuned {output.tuned} --log-table {output.log_table}"
            " --output {output.table} 2>&1 | tee {log}"


if "augmented_probe" in DONE:

    rule augmented_probe:
        input:
            data=OBJECTS,
            checked=ancient(f"{RESULTS}/checks/objects.json"),
            encoder=encoder_of,
        output:
            table=f"{RESULTS}/tables/augmented_probe/{{run}}.parquet",
        params:
            config=CONFIG,
            subject=subject_of,
            runs=f"{RESULTS}/runs",
            encoder_settings=lambda wildcards: settings_of(wildcards.run),
            settings=sections_digest(TRANSFER.augmented_probe),
            code=code_digest("cl_vs_mim.transfer.finetune"),
        log:
            f"{RESULTS}/logs/augmented_probe/{{run}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/augmented_probe/{{run}}.tsv"
        threads: STUDY.compute.training_threads
        shell:
            "python -m cl_vs_mim.transfer.finetune --protocol augmented_probe --config {params.config} {params.subject}"
            " --runs {params.runs} --threads {threads} --output {output.table} 2>&1 | tee {log}"
