# One encoder per model and seed. The training state lives in results/<study>/runs/, because Snakemake deletes the
# declared outputs of an unfinished rule; a killed training goes on where it was.


rule pretrain:
    input:
        data=OBJECTS,
        checked=f"{RESULTS}/checks/objects.json",
        tokenizer=tokenizer_of,
    output:
        encoder=f"{RESULTS}/encoders/{{run}}.safetensors",
        metrics=f"{RESULTS}/tables/training/{{run}}.csv",
    params:
        config=CONFIG,
        model=lambda wildcards: TRAINED[wildcards.run][0],
        seed=lambda wildcards: TRAINED[wildcards.run][1],
        data=lambda wildcards, input: Path(input.data).parent,
        runs=f"{RESULTS}/runs",
        tokenizer=lambda wildcards, input: f"--tokenizer {input.tokenizer}" if input.tokenizer else "",
        settings=lambda wildcards: settings_of(wildcards.run),
        code=code_digest("cl_vs_mim.pretrain.loop"),
    log:
        f"{RESULTS}/logs/pretrain/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/pretrain/{{run}}.tsv"
    threads: STUDY.compute.training_threads
    wildcard_constraints:
        run="|".join(TRAINED),
    conda:
        "../environment.yml"
    shell:
        "python -m cl_vs_mim.pretrain.loop --config {params.config} --model {params.model} --seed {params.seed}"
        " --data {params.data} --runs {params.runs} --threads {threads} {params.tokenizer}"
        " --output {output.encoder} --log-table {output.metrics} 2>&1 | tee {log}"
