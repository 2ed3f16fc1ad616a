# Tables in, figures out. Each figure is a PDF, a PNG and a CSV of exactly what is drawn; figures/ holds those of the
# study selected last.


rule figures:
    input:
        expand("figures/{figure}.{kind}", figure=FIGURES, kind=["pdf", "png", "csv"]),


rule fig2:
    input:
        maps=tables("attention_maps"),
        image=f"{RESULTS}/tables/attention_image/{next(iter(RUNS))}.parquet",
    output:
        **written("fig2"),
    params:
        config=CONFIG,
        settings=sections_digest(STUDY),
        code=code_digest("figures", "statistics", "analysis.attention"),
    log:
        f"{RESULTS}/logs/figures/fig2.log",
    benchmark:
        f"{RESULTS}/benchmarks/figures/fig2.tsv"
    conda:
        "../environment.yml"
    shell:
        "python -m cl_vs_mim.figures.fig02 --config {params.config} --tables {input.maps} --image {input.image}"
        " --output {output.pdf} 2>&1 | tee {log}"


rule fig3:
    input:
        tables=tables("attention"),
        reference=REFERENCE,
    output:
        **written("fig3"),
    params:
        config=CONFIG,
        settings=sections_digest(STUDY),
        code=code_digest("figures", "statistics", "analysis.attention"),
    log:
        f"{RESULTS}/logs/figures/fig3.log",
    benchmark:
        f"{RESULTS}/benchmarks/figures/fig3.tsv"
    conda:
        "../environment.yml"
    shell:
        "python -m cl_vs_mim.figures.fig03 --config {params.config} --tables {input.tables}"
        " --reference {input.reference} --output {output.pdf} 2>&1 | tee {log}"


rule fig4:
    input:
        tables=tables("attention"),
        reference=REFERENCE,
    output:
        **written("fig4"),
    params:
        config=CONFIG,
        settings=sections_digest(STUDY),
        code=code_digest("figures", "statistics", "analysis.attention"),
    log:
        f"{RESULTS}/logs/figures/fig4.log",
    benchmark:
        f"{RESULTS}/benchmarks/figures/fig4.tsv"
    conda:
        "../environment.yml"
    shell:
        "python -m cl_vs_mim.figures.fig04 --config {params.config} --tables {input.tables}"
        " --reference {input.reference} --output {output.pdf} 2>&1 | tee {log}"


rule fig10:
    input:
        tables=tables("linear_probe"),
        reference=REFERENCE,
    output:
        **written("fig10"),
    params:
        config=CONFIG,
        settings=sections_digest(STUDY),
        code=code_digest("figures", "statistics"),
    log:
        f"{RESULTS}/logs/figures/fig10.log",
    benchmark:
        f"{RESULTS}/benchmarks/figures/fig10.tsv"
    conda:
        "../environment.yml"
    shell:
        "python -m cl_vs_mim.figures.fig10 --config {params.config} --tables {input.tables}"
        " --reference {input.reference} --output {output.pdf} 2>&1 | tee {log}"


rule appendix_coarse:
    input:
        tables=tables("linear_probe"),
    output:
        **written("appendix_coarse"),
    params:
        config=CONFIG,
        settings=sections_digest(STUDY),
        code=code_digest("figures", "statistics"),
    log:
        f"{RESULTS}/logs/figures/appendix_coarse.log",
    benchmark:
        f"{RESULTS}/benchmarks/figures/appendix_coarse.tsv"
    conda:
        "../environment.yml"
    shell:
        "python -m cl_vs_mim.figures.appendix_coarse --config {params.config} --tables {input.tables}"
        " --output {output.pdf} 2>&1 | tee {log}"


# The README's picture and the numbers it quotes, made by the same rule as everybody's; run after the demo study has
# changed, and committed.
rule readme_figure:
    input:
        png="figures/fig3.png",
        csv="figures/fig3.csv",
    output:
        png="docs/images/fig3.png",
        csv="docs/images/fig3.csv",
    log:
        f"{RESULTS}/logs/figures/readme_figure.log",
    benchmark:
        f"{RESULTS}/benchmarks/figures/readme_figure.tsv"
    conda:
        "../environment.yml"
    shell:
        "(cp {input.png} {output.png} && cp {input.csv} {output.csv}) 2>&1 | tee {log}"
