# Which tables and files each figure is drawn from. A new figure is one entry here and one module.


def of_pair(kind):
    return tables(kind, PAIR)


# SimMIM and MAE have decoders; MAE's architecture has its control.
FIG11 = [*DECODED, *(run for run in CONTROLS if any(RUNS[run][0] == f"untrained_{STUDY.models[TRAINED[mim][0]].architecture}" for mim in DECODED if STUDY.models[TRAINED[mim][0]].objective.method == "mae"))]
OVERVIEW = {"tables": "attention", "diversity-tables": "diversity", "fourier-tables": "fourier"}

# Figure -> its inputs by option: tables of the encoders it draws, and files.
FIGURES = {
    "fig2": {
        "tables": of_pair("attention_maps"),
        "image": [f"{RESULTS}/tables/attention_image/{next(iter(PAIR))}.parquet"],
    },
    "fig3": {"tables": of_pair("attention"), "reference": [REFERENCE]},
    "fig4": {"tables": of_pair("attention"), "reference": [REFERENCE]},
    "fig5": {"tables": of_pair("diversity")},
    "fig6": {"tables": of_pair("movement_tokens"), "movement-tables": of_pair("movement")},
    "fig7": {"tables": of_pair("token_spectrum"), "image-tables": of_pair("image_spectrum")},
    "fig8": {"tables": of_pair("fourier"), "reference": [REFERENCE]},
    "fig11": {
        "tables": tables("fourier", FIG11),
        "decoder-tables": tables("decoder_fourier", DECODED),
        "reconstruction-tables": tables("reconstruction", DECODED),
        "reference": [REFERENCE],
    },
    "appendix_diversity": {"tables": of_pair("diversity")},
    "appendix_heads": {"tables": of_pair("attention")},
    "appendix_maps": {"tables": of_pair("attention_maps")},
    "appendix_methods": {option: tables(kind) for option, kind in OVERVIEW.items()},
    "appendix_sizes": {option: tables(kind, TRAINED) for option, kind in OVERVIEW.items()},
    "appendix_finetuned": {option: tables(kind, TRAINED) for option, kind in OVERVIEW.items()},
}


def module_of(figure):
    """fig3 is drawn by cl_vs_mim.figures.fig03; an appendix by the module of its name."""
    number = figure.removeprefix("fig")
    return f"fig{int(number):02}" if number.isdigit() else figure


def options_of(wildcards):
    """The inputs as options of the figure's command."""
    return " ".join(f"--{option} {' '.join(paths)}" for option, paths in FIGURES[wildcards.figure].items())
