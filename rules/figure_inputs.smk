# Which tables and files each figure is drawn from. A new figure is one entry here and one module.


def of_pair(kind):
    return tables(kind, PAIR)


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
    "fig9": {"tables": of_pair("cue_conflict"), "noise-tables": of_pair("noise"), "reference": [REFERENCE]},
    "fig10": {"tables": of_pair("linear_probe"), "reference": [REFERENCE]},
    "fig11": {
        "tables": tables("fourier", FIG11),
        "decoder-tables": tables("decoder_fourier", DECODED),
        "reconstruction-tables": tables("reconstruction", DECODED),
        "reference": [REFERENCE],
    },
    "training": {"tables": [f"{RESULTS}/tables/training/{run}.csv" for run in TRAINED]},
    "appendix_diversity": {"tables": of_pair("diversity")},
    "appendix_heads": {"tables": of_pair("attention")},
    "appendix_maps": {"tables": of_pair("attention_maps")},
    "appendix_methods": {option: tables(kind, METHODS) for option, kind in OVERVIEW.items()},
    "appendix_sizes": {option: tables(kind, ANALYSED) for option, kind in OVERVIEW.items()},
    "appendix_tsne": {"tables": of_pair("embedding"), "purity-tables": of_pair("embedding_purity")},
    "appendix_finetuned": {option: tables(kind, ANALYSED) for option, kind in OVERVIEW.items()},
}


def module_of(figure):
    """fig3 is drawn by cl_vs_mim.figures.fig03; an appendix by the module of its name."""
    number = figure.removeprefix("fig")
    return f"fig{int(number):02}" if number.isdigit() else figure


def options_of(wildcards):
    """The inputs as options of the figure's command."""
    return " ".join(f"--{option} {' '.join(paths)}" for option, paths in FIGURES[wildcards.figure].items())
if {"finetuning", "augmented_probe"} <= set(DONE):
    FIGURES["fig1"] = {
        "tables": classified("finetuning", METHODS),
        "probe-tables": classified("augmented_probe", METHODS),
        "reference": [REFERENCE],
    }
    if detected := dense("detection"):
        FIGURES["fig1"]["detection-tables"] = detected
    if HYBRIDS:
        FIGURES["fig12"] = {
            "tables": classified("finetuning", HYBRIDS),
            "probe-tables": classified("augmented_probe", HYBRIDS),
            "attention-tables": tables("attention", HYBRIDS),
            "fourier-tables": tables("fourier", HYBRIDS),
            "reference": [REFERENCE],
        }
if "finetuning" in DONE:
    for option, kind in OVERVIEW.items():
        FIGURES["appendix_finetuned"][option] = [
            *tables(kind, PAIR_TRAINED),
            *tables(f"finetuned/{kind}", PAIR_TRAINED),
        ]
if "category" in STUDY.analysis.probe.labels:  # an ordinary ImageFolder has none
    FIGURES["appendix_coarse"] = {"tables": tables("linear_probe", METHODS)}
