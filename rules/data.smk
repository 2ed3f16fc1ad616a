# The embedded cut-outs become ordinary data sets: an ImageFolder, COCO, ADE20K and cue-conflict images.


rule data:
    input:
        expand("{results}/data/{dataset}/manifest.json", results=RESULTS, dataset=DATASETS),


if isinstance(STUDY.data, FolderData):

    rule adopt:
        output:
            f"{RESULTS}/data/{{dataset}}/manifest.json",
        params:
            config=CONFIG,
            settings=sections_digest(STUDY.data),
        log:
            f"{RESULTS}/logs/adopt/{{dataset}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/adopt/{{dataset}}.tsv"
        conda:
            "../environment.yml"
        shell:
            "python -m cl_vs_mim.data.checks --adopt --config {params.config} --dataset {wildcards.dataset}"
            " --data $(dirname {output}) 2>&1 | tee {log}"

else:

    rule compose:
        input:
            "data/kit/manifest.csv",
        output:
            f"{RESULTS}/data/{{dataset}}/manifest.json",
        params:
            config=CONFIG,
            settings=sections_digest(STUDY.data),
            code=code_digest("cl_vs_mim.data.build"),
        log:
            f"{RESULTS}/logs/compose/{{dataset}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/compose/{{dataset}}.tsv"
        threads: STUDY.compute.compose_workers
        conda:
            "../environment.yml"
        shell:
            "python -m cl_vs_mim.data.build --config {params.config} --dataset {wildcards.dataset}"
            " --output $(dirname {output}) --workers {threads} 2>&1 | tee {log}"


# Layout, counts and checksums, before anything is trained on a data set.
rule check:
    input:
        f"{RESULTS}/data/{{dataset}}/manifest.json",
    output:
        f"{RESULTS}/checks/{{dataset}}.json",
    params:
        config=CONFIG,
        settings=sections_digest(STUDY.data),
        code=code_digest("cl_vs_mim.data.checks"),
    log:
        f"{RESULTS}/logs/check/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/check/{{dataset}}.tsv"
    conda:
        "../environment.yml"
    shell:
        "python -m cl_vs_mim.data.checks --config {params.config} --dataset {wildcards.dataset}"
        " --data $(dirname {input}) --output {output} 2>&1 | tee {log}"
