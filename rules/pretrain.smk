# One encoder per model and seed. The training state lives in results/<study>/runs/, because Snakemake deletes the
# declared outputs of an unfinished rule; a killed training goes on where it was.


rule pretrain:
    input:
        data=OBJECTS,
        checked=ancient(f"{RESULTS}/checks/objects.json"),
        needs=needed_by,
    output:
        encoder=f"{RESULTS}/encoders/{{run}}.safetensors",
        metrics=f"{RESULTS}/tables/training/{{run}}.csv",
    params:
        config=CONFIG,
        data=lambda wildcards, input: Path(input.data).parent,
        runs=f"{RESULTS}/runs",
        needs=lambda wildcards, input: ["--needs", input.needs] if input.needs else [],
        decided=lambda wildcards: COMMAND["pretrain"].decided(STUDY, wildcards.run),
    log:
        f"{RESULTS}/logs/pretrain/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/pretrain/{{run}}.tsv"
    threads: STUDY.compute.training_threads
    wildcard_constraints:
        run="|".join(PRETRAINED) or "none",
    shell:
        "cl-vs-mim pretrain --config {params.config:q} --run {wildcards.run:q} --data {params.data:q}"
        " --runs {params.runs:q} --threads {threads} {params.needs:q}"
        " --output {output.encoder:q} --log-table {output.metrics:q} 2>&1 | tee {log:q}"


# An encoder that the study takes from a file or from timm's hub: checked, and written as those are that it trains.
rule import_encoder:
    input:
        lambda wildcards: STUDY.models[TRAINED[wildcards.run][0]].checkpoint_file(*TRAINED[wildcards.run]) or [],
    output:
        f"{RESULTS}/encoders/{{run}}.safetensors",
    params:
        config=CONFIG,
        checkpoint=lambda wildcards, input: ["--checkpoint", *input] if len(input) else [],
        decided=lambda wildcards: COMMAND["import-encoder"].decided(STUDY, wildcards.run),
    log:
        f"{RESULTS}/logs/import_encoder/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/import_encoder/{{run}}.tsv"
    wildcard_constraints:
        run="|".join(run for run in TRAINED if run not in PRETRAINED) or "none",
    shell:
        "cl-vs-mim import-encoder --config {params.config:q} --run {wildcards.run:q} {params.checkpoint:q}"
        " --output {output:q} 2>&1 | tee {log:q}"


# Encoders to hand on, in half precision: those that the study trains.
rule weights:
    input:
        expand(f"{WEIGHTS}/{{run}}.{{kind}}", run=HANDED_ON, kind=["safetensors", "md"]),


rule export_weights:
    input:
        f"{RESULTS}/encoders/{{run}}.safetensors",
    output:
        f"{WEIGHTS}/{{run}}.safetensors",
    params:
        config=CONFIG,
        decided=lambda wildcards: COMMAND["export-weights"].decided(STUDY, wildcards.run),
    log:
        f"{RESULTS}/logs/export_weights/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/export_weights/{{run}}.tsv"
    wildcard_constraints:
        run="|".join(PRETRAINED) or "none",
    shell:
        "cl-vs-mim export-weights --config {params.config:q} --run {wildcards.run:q} --encoder {input:q}"
        " --output {output:q} 2>&1 | tee {log:q}"


# The study with all that it takes over from recipes and all defaults written out: what decided the results beside it.
rule study:
    output:
        f"{RESULTS}/study.yaml",
    params:
        config=CONFIG,
        decided=lambda wildcards: COMMAND["show-study"].decided(STUDY, ""),
    log:
        f"{RESULTS}/logs/study.log",
    benchmark:
        f"{RESULTS}/benchmarks/study.tsv"
    shell:
        "cl-vs-mim show-study --config {params.config:q} --output {output:q} 2>&1 | tee {log:q}"
