# The embedded cut-outs become ordinary data sets: an ImageFolder, COCO, ADE20K and cue-conflict images; or data sets on
# the disk are linked to where those would be.


rule data:
    input:
        expand("{results}/data/{dataset}/manifest.json", results=RESULTS, dataset=DATASETS),


if isinstance(STUDY.data, FolderData):

    rule adopt:
        output:
            f"{RESULTS}/data/{{dataset}}/manifest.json",
        params:
            config=CONFIG,
            folder=lambda wildcards, output: Path(output[0]).parent,
            decided=lambda wildcards: COMMAND["adopt"].decided(STUDY, wildcards.dataset),
        log:
            f"{RESULTS}/logs/adopt/{{dataset}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/adopt/{{dataset}}.tsv"
        shell:
            "cl-vs-mim adopt --config {params.config:q} --dataset {wildcards.dataset:q} --output {params.folder:q}"
            " 2>&1 | tee {log:q}"

else:

    rule compose:
        input:
            f"{STUDY.data.kit}/manifest.csv",
        output:
            f"{RESULTS}/data/{{dataset}}/manifest.json",
        params:
            config=CONFIG,
            folder=lambda wildcards, output: Path(output[0]).parent,
            decided=lambda wildcards: COMMAND["compose"].decided(STUDY, wildcards.dataset),
        log:
            f"{RESULTS}/logs/compose/{{dataset}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/compose/{{dataset}}.tsv"
        threads: STUDY.compute.compose_workers
        shell:
            "cl-vs-mim compose --config {params.config:q} --dataset {wildcards.dataset:q} --output {params.folder:q}"
            " --workers {threads} 2>&1 | tee {log:q}"


# Layout, counts and checksums, before anything is trained on a data set. Rules that wait for it take it as `ancient`:
# checked again, the same images are the same.
rule check:
    input:
        f"{RESULTS}/data/{{dataset}}/manifest.json",
    output:
        f"{RESULTS}/checks/{{dataset}}.json",
    params:
        config=CONFIG,
        folder=lambda wildcards, input: Path(input[0]).parent,
        decided=lambda wildcards: COMMAND["check"].decided(STUDY, wildcards.dataset),
    log:
        f"{RESULTS}/logs/check/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/check/{{dataset}}.tsv"
    shell:
        "cl-vs-mim check --config {params.config:q} --dataset {wildcards.dataset:q} --data {params.folder:q}"
        " --output {output:q} 2>&1 | tee {log:q}"
