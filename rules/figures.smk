# Tables in, figures out; rules/figure_inputs.smk says which tables. Each figure is a PDF, a PNG and a CSV of exactly what is drawn; figures/ holds those of the
# study selected last.


rule figures:
    input:
        expand("figures/{figure}.{kind}", figure=FIGURES, kind=["pdf", "png", "csv"]),


rule figure:
    input:
        lambda wildcards: sum(FIGURES[wildcards.figure].values(), []),
    output:
        pdf=report(
            "figures/{figure}.pdf", caption="../report/figure.rst", category="Figures", labels={"figure": "{figure}"}
        ),
        png="figures/{figure}.png",
        csv="figures/{figure}.csv",
    params:
        config=CONFIG,
        module=lambda wildcards: module_of(wildcards.figure),
        options=options_of,
        settings=sections_digest(STUDY.figures),
        study=[STUDY.title, STUDY.reduced, *(model.label for model in STUDY.models.values())],
        texts=lambda wildcards: figure_texts(module_of(wildcards.figure)),
        code=lambda wildcards: code_digest(f"cl_vs_mim.figures.{module_of(wildcards.figure)}"),
    log:
        f"{RESULTS}/logs/figures/{{figure}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/figures/{{figure}}.tsv"
    wildcard_constraints:
        figure="|".join(FIGURES),
    conda:
        "../environment.yml"
    shell:
        "python -m cl_vs_mim.figures.{params.module} --config {params.config} {params.options}"
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
