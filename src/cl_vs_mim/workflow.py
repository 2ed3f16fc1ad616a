"""What the Snakefile asks of the package: a validated study, and digests that decide what must be rebuilt.

A rule's parameters hold the digest of the configuration it reads and of the code it runs, so a change of either
rebuilds its output, and a change of a comment, a docstring or another section does not.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from cl_vs_mim.artifacts import sha256_json
from cl_vs_mim.config import Section, Study

DECODERS = ("mae", "simmim")  # methods that turn tokens into pixels
# Modules and packages of cl_vs_mim whose code decides an encoder's weights.
TRAINING_CODE = ("spec", "encoder", "decoder", "randomness", "data.augment", "data.images", "pretrain")


def sections_digest(*sections: Section) -> str:
    """First 12 hex digits of the sha256 of the given parts of the configuration, defaults written out."""
    return sha256_json([section.model_dump(mode="json") for section in sections])[:12]


@cache
def code_digest(*modules: str) -> str:
    """First 12 hex digits of the sha256 of what the named modules or packages of ``cl_vs_mim`` do.

    Comments, docstrings and layout are left out, so that cosmetic edits do not retrain anything.
    """
    digest = hashlib.sha256()
    for name in sorted(modules):
        for path in _sources(f"cl_vs_mim.{name}"):
            digest.update(_without_docstrings(path.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:12]


def _sources(module: str) -> list[Path]:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{module}, named in a rule's code digest, does not exist")
    if spec.submodule_search_locations:
        return sorted(Path(spec.origin).parent.glob("*.py"))
    return [Path(spec.origin)]


def _without_docstrings(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


@cache
def folder_digest(folder: str) -> str:
    """First 12 hex digits of the sha256 of the files, names included, of a folder of the package."""
    digest = hashlib.sha256()
    for path in sorted((Path(__file__).parent / folder).iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def claimed_figures(claims: str) -> list[str]:
    """Names of the figures that ``claims.yaml`` names, each once, in its order."""
    from cl_vs_mim.audit.claims import load_claims

    return list(dict.fromkeys(claim.figure for claim in load_claims(Path(claims)).claims.values()))


@cache
def figure_texts(module: str) -> tuple[str, str]:
    """Title and caption of a module of ``cl_vs_mim.figures``, read without importing it.

    Raises:
        KeyError: the module states no TITLE or no CAPTION.
    """
    (path,) = _sources(f"cl_vs_mim.figures.{module}")
    texts = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in ("TITLE", "CAPTION")
    }
    return texts["TITLE"], texts["CAPTION"]


# ------------------------------------------------------------------------------------------------
# Runs
# ------------------------------------------------------------------------------------------------


def run_name(model: str, seed: int) -> str:
    """File stem of everything that belongs to one encoder, trained or untrained."""
    return f"{model}_seed{seed}"


def trained_runs(study: Study) -> dict[str, tuple[str, int]]:
    """Stem of every trained encoder of the study, with its model and seed."""
    return {run_name(name, seed): (name, seed) for name, model in study.models.items() for seed in model.seeds}


def analysed_runs(study: Study) -> dict[str, tuple[str, int]]:
    """Those of :func:`trained_runs` that are measured and drawn: all but tokenizers."""
    return {run: subject for run, subject in trained_runs(study).items() if subject[0] in study.analysed()}


def method_runs(study: Study) -> dict[str, tuple[str, int]]:
    """Those of the appendix's figures of all methods: no hybrids, which are a figure of their own, and all controls."""
    trained = {run: one for run, one in analysed_runs(study).items() if one[0] in study.methods()}
    return trained | control_runs(study)


def hybrid_runs(study: Study) -> dict[str, tuple[str, int]]:
    """The hybrids, and the controls of their architectures if there are any hybrids."""
    hybrids = {name for name, model in study.models.items() if model.paradigm == "hybrid"}
    kinds = {study.models[name].architecture for name in hybrids}
    trained = {run: one for run, one in analysed_runs(study).items() if one[0] in hybrids}
    controls = {run: one for run, one in control_runs(study).items() if study.controls()[one[0]] in kinds}
    return trained | controls


def tokenizer_file(study: Study, model: str, encoders: str) -> str | None:
    """Path of the tokenizer that a model's objective needs, or None; the study's own are in the folder ``encoders``."""
    objective = study.models[model].objective
    if getattr(objective, "tokenizer", None) is not None:
        return f"{encoders}/{run_name(objective.tokenizer, study.models[objective.tokenizer].seeds[0])}.safetensors"
    return getattr(objective, "tokenizer_file", None)


def control_runs(study: Study) -> dict[str, tuple[str, int]]:
    """Stem of every untrained encoder of the study, with its name and seed."""
    return {run_name(name, seed): (name, seed) for name in study.controls() for seed in study.analysis.control_seeds}


def pair_runs(study: Study) -> dict[str, tuple[str, int]]:
    """Stem of every encoder, trained or not, that the main figures draw, with its name and seed."""
    drawn = study.pair()
    return {run: subject for run, subject in (trained_runs(study) | control_runs(study)).items() if subject[0] in drawn}


def runs_with_decoder(study: Study) -> list[str]:
    """Stem of every trained encoder whose method paints pixels (SimMIM, MAE)."""
    return [run for run, (name, _) in trained_runs(study).items() if study.models[name].objective.method in DECODERS]


def decoder_figure_runs(study: Study) -> list[str]:
    """Those of Figure 11: the encoders with a decoder, and the controls of MAE's architectures."""
    architectures = {model.architecture for model in study.models.values() if model.objective.method == "mae"}
    controls = [run for run, (name, _) in control_runs(study).items() if study.controls()[name] in architectures]
    return [*runs_with_decoder(study), *controls]
