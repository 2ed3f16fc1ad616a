# What encoders are good for: a rule for each task that the study has settings for (cl_vs_mim.transfer). One that trains
# keeps its state in results/<study>/runs/, because Snakemake deletes the declared outputs of an unfinished rule: a killed
# training goes on where it was.

for task in TASKS.values():

    rule:
        name:
            task.name
        input:
            **task_inputs(task),
        output:
            **task_outputs(task),
        params:
            verb=task.verb,
            options=task_options(task),
            decided=task_decided(task),
        log:
            f"{RESULTS}/logs/{task.name}/{{run}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/{task.name}/{{run}}.tsv"
        threads: STUDY.compute.training_threads if task.train is not None else STUDY.compute.analysis_threads
        shell:
            "cl-vs-mim {params.verb:q} {params.options:q} --threads {threads} 2>&1 | tee {log:q}"
