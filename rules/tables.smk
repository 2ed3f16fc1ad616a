# Results as tables for people.


rule table_transfer:
    input:
        finetuning=classified("finetuning", METHODS),
        probe=classified("paper", METHODS),
        detection=dense("detection"),
        segmentation=dense("segmentation"),
        reference=REFERENCE,
    output:
        csv="tables/transfer.csv",
        md="tables/transfer.md",
        tex="tables/transfer.tex",
    params:
        config=CONFIG,
        inputs=lambda wildcards, input: " ".join(
            f"--{kind}-tables {' '.join(paths)}"
            for kind, paths in (
                ("finetuning", input.finetuning),
                ("probe", input.probe),
                ("detection", input.detection),
                ("segmentation", input.segmentation),
            )
            if paths
        ),
        code=code_digest("tables", "figures.scores", "figures.tables", "statistics"),
    log:
        f"{RESULTS}/logs/tables/transfer.log",
    benchmark:
        f"{RESULTS}/benchmarks/tables/transfer.tsv"
    conda:
        "../environment.yml"
    shell:
        "python -m cl_vs_mim.tables.transfer --config {params.config} {params.inputs} --reference {input.reference}"
        " --output {output.csv} 2>&1 | tee {log}"


rule tables:
    input:
        rules.table_transfer.output if classified("finetuning") else [],
