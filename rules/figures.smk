# Tables in, figures out. Which figures there are, and which tables each is drawn from, the figures say themselves
# (cl_vs_mim.figures.figure). Each is a PDF, a PNG and a CSV of exactly what is drawn; rules/shown.smk links those of the
# study that was asked for last into figures/.

rule figures:
    input:
        expand("figures/{figure}.{kind}", figure=FIGURES, kind=["pdf", "png", "csv"]),


rule figure:
    input:
        lambda wildcards: read_by(FIGURE_REGISTER[FIGURES[wildcards.figure]].reads),
    output:
        pdf=report(
            update(f"{RESULTS}/figures/{{figure}}.pdf"),
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        png=update(f"{RESULTS}/figures/{{figure}}.png"),
        csv=update(f"{RESULTS}/figures/{{figure}}.csv"),
    params:
        config=CONFIG,
        tables=TABLE_FOLDER,
        reference=REFERENCE,
        decided=lambda wildcards: COMMAND["figures"].decided(STUDY, FIGURES[wildcards.figure]),
        title=lambda wildcards: FIGURE_REGISTER[FIGURES[wildcards.figure]].title,
        caption=lambda wildcards: FIGURE_REGISTER[FIGURES[wildcards.figure]].caption,
    log:
        f"{RESULTS}/logs/figures/{{figure}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/figures/{{figure}}.tsv"
    wildcard_constraints:
        figure="|".join(FIGURES),
    shell:
        "cl-vs-mim figures {wildcards.figure:q} --config {params.config:q} --tables {params.tables:q}"
        " --reference {params.reference:q} --output {output.pdf:q} 2>&1 | tee {log:q}"


# A name that no figure has: the figures there are, instead of Snakemake's word that no rule makes it.
rule no_such_figure:
    input:
        known_figure,
    output:
        "figures/{other}.{kind}",
    wildcard_constraints:
        other=rf"(?!(?:{'|'.join(FIGURES)})\.)[^/.]+",
        kind="pdf|png|csv",


# The README's picture and the numbers it quotes, made by the same rule as everybody's; run after that study has changed,
# and committed. No other study may write into the documentation, and no tables of a tree with uncommitted changes.
if STUDY.study == DOCUMENTED:

    rule readme_figure:
        input:
            png=f"{RESULTS}/figures/fig3.png",
            csv=f"{RESULTS}/figures/fig3.csv",
        output:
            png=update("docs/images/fig3.png"),
            csv=update("docs/images/fig3.csv"),
        log:
            f"{RESULTS}/logs/figures/readme_figure.log",
        benchmark:
            f"{RESULTS}/benchmarks/figures/readme_figure.tsv"
        shell:
            "(if grep -q +dirty {input.csv:q}; then echo 'error: tables of a tree with uncommitted changes; commit, and"
            " measure again'; exit 1; fi; cp {input.png:q} {output.png:q} && cp {input.csv:q} {output.csv:q}) 2>&1"
            " | tee {log:q}"
