# The embedded cut-outs become ordinary data sets: an ImageFolder, COCO, ADE20K and cue-conflict images.


rule data:
    input:
        expand("{results}/data/{dataset}/manifest.json", results=RESULTS, dataset=DATASETS),


rule compose:
    input:
        "data/kit/manifest.csv",
    output:
        f"{RESULTS}/data/{{dataset}}/manifest.json",
    params:
        config=CONFIG,
        settings=sections_digest(STUDY.data),
        code=code_digest("data"),
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
