# figures/ and tables/ are of one study, the one that was asked for last: links into its results, and a note of its name.
# Asking for another study takes all links of the first away, also those of figures that are not asked for now.

SHOWN = {  # folder -> where its files really are, their names and their kinds
    "figures": (f"{RESULTS}/figures", list(FIGURES), ["pdf", "png", "csv"]),
    "tables": (f"{RESULTS}/summary", result_tables.tables_of(STUDY), ["csv", "md", "tex"]),
}


rule shown_study:
    output:
        "{folder}/STUDY",
    params:
        study=STUDY.study,
    log:
        f"{RESULTS}/logs/shown/{{folder}}.log",
    wildcard_constraints:
        folder="|".join(SHOWN),
    priority: 100
    shell:
        "(find {wildcards.folder:q}/ -maxdepth 1 -type l -delete && echo {params.study:q} > {output:q}) 2>&1 | tee {log:q}"


for folder, (place, names, kinds) in SHOWN.items():

    rule:
        name:
            f"show_{folder}"
        input:
            f"{folder}/STUDY",
            made=[f"{place}/{{name}}.{kind}" for kind in kinds],
        output:
            [f"{folder}/{{name}}.{kind}" for kind in kinds],
        params:
            folder=lambda wildcards, output: Path(output[0]).parent,
        log:
            f"{RESULTS}/logs/shown/{folder}_{{name}}.log",
        wildcard_constraints:
            name="|".join(names),
        shell:
            "ln -sfrt {params.folder:q} {input.made:q} 2>&1 | tee {log:q}"
