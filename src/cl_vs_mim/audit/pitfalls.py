"""``docs/pitfalls.md``: common misreadings of the paper, each with the number of our tables that shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from cl_vs_mim.audit.contrasts import Contrast
from cl_vs_mim.audit.measure import measure
from cl_vs_mim.audit.series import Tables, model_of
from cl_vs_mim.config import Study
from cl_vs_mim.metrics.fourier import frequencies

DATA_FILES = ("templates/pitfalls.md.jinja",)

_ENCODERS = ("cl", "mim", "cl_untrained", "mim_untrained")
_LAST = {"over": "last"}
_PROBE = {"table": "linear_probe", "where": {"labels": "class", "split": "val", "pooling": "mean"}}
_CLS = {"table": "linear_probe", "where": {"labels": "class", "split": "val", "pooling": "cls"}}
_OF_A_CATEGORY = {"material": ""}  # a surface of a material has no category, so that it cannot be decided for
_SHAPE = {"column": "decision", "equals": ["shape"], "among": ["shape", "texture"]}

# Name in the page -> what is measured of one encoder, and at which depths.
NUMBERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nmi": ({"table": "attention", "where": {"metric": "nmi"}}, _LAST),
    "entropy": ({"table": "attention", "where": {"metric": "attention_entropy"}}, _LAST),
    "reach": ({"table": "attention", "where": {"metric": "attention_distance"}, "per_uniform": True}, _LAST),
    "similarity": ({"table": "diversity", "where": {"metric": "token_similarity_heads"}}, _LAST),
    "shape": ({"table": "cue_conflict", "where": _OF_A_CATEGORY, "decision": _SHAPE}, _LAST),
    "amplitude": ({"table": "fourier", "highest_frequency": True}, _LAST),
    "probe_last": (_PROBE, _LAST),
    "probe_two_thirds": (_PROBE, {"depths": [0.6, 0.7]}),
    "probe_cls": (_CLS, _LAST),
    "probe_augmented": ({"table": "augmented_probe", "where": {"split": "val"}}, _LAST),
}


def contrasts(study: Study) -> dict[tuple[str, str], Contrast]:
    """What the page measures, by the name of the number and the encoder."""
    drawn = {"metric": "image_purity", "perplexity": study.analysis.embedding.perplexity}
    purity = {"table": "embedding_purity", "where": drawn}
    asked_of_all = NUMBERS | {"purity_middle": (purity, {"over": "first"}), "purity_late": (purity, _LAST)}
    return {
        (name, encoder): Contrast.model_validate({"name": name, **asked, "more": {"model": encoder, **term}})
        for name, (asked, term) in asked_of_all.items()
        for encoder in _ENCODERS
    }


def numbers(study: Study, folder: Path) -> dict[str, dict[str, str]]:
    """Every number of the page with its interval, as text: name -> encoder -> number.

    Raises:
        UserError: a table is missing.
    """
    level = study.figures.bootstrap.level
    tables = Tables(study, folder)
    found: dict[str, dict[str, str]] = {}
    for (name, encoder), contrast in contrasts(study).items():
        effect = measure(tables, contrast, "none").interval(level)
        text = f"{effect.value:.3f}"
        found.setdefault(name, {})[encoder] = (
            text if effect.low is None else f"{text} [{effect.low:.3f}, {effect.high:.3f}]"
        )
    return found


def page(study: Study, folder: Path) -> str:
    """The page, with the numbers of a study.

    Args:
        study: the study that the numbers are from.
        folder: the folder of its tables.

    Raises:
        UserError: a table is missing.
    """
    architecture = study.architectures[study.models[study.figures.pair[0]].architecture]
    grid = architecture.image_size // architecture.patch_size
    environment = Environment(loader=PackageLoader("cl_vs_mim.audit"), undefined=StrictUndefined, trim_blocks=True)
    text = environment.get_template("pitfalls.md.jinja").render(
        study=study,
        grid=grid,
        highest=f"{frequencies(grid)[-1]:.3f}",
        level=f"{100 * study.figures.bootstrap.level:g}",
        labels={name: study.models[model_of(study, name)].label for name in ("cl", "mim")},
        **numbers(study, folder),
    )
    return text + "\n"
