"""Which encoders a study has: trained and untrained, by the file stem of what belongs to each."""

from __future__ import annotations

from typing import Any

from cl_vs_mim.config.data import FolderData, KitData
from cl_vs_mim.config.models import Training
from cl_vs_mim.config.study import Study
from cl_vs_mim.core.errors import UserError, nearest


def run_name(model: str, seed: int) -> str:
    """File stem of everything that belongs to one encoder, trained or untrained."""
    return f"{model}_seed{seed}"


def trained_runs(study: Study) -> dict[str, tuple[str, int]]:
    """Stem of every trained encoder of the study, with its model and seed."""
    return {run_name(name, seed): (name, seed) for name, model in study.models.items() for seed in model.seeds}


def pretrained_runs(study: Study) -> dict[str, tuple[str, int]]:
    """Those of :func:`trained_runs` that the study trains itself: all but those that are taken."""
    return {run: one for run, one in trained_runs(study).items() if not study.models[one[0]].taken}


def recorded_runs(study: Study) -> dict[str, tuple[str, int]]:
    """Those of :func:`trained_runs` whose training is on record: all that the study has a recipe of.

    An encoder from a checkpoint whose recipe the study states comes with the tables of its training.
    """
    return {run: one for run, one in trained_runs(study).items() if study.models[one[0]].training is not None}


def snapshot_runs(study: Study) -> dict[str, tuple[str, int]]:
    """Those of the main pair of which encoders were kept while they trained, where the study measures them."""
    if study.analysis.phenomena is None:
        return {}
    runs = {run: one for run, one in recorded_runs(study).items() if one[0] in study.figures.pair}
    return {run: one for run, one in runs.items() if study.models[one[0]].recipe()[1].snapshots is not None}


def analysed_runs(study: Study) -> dict[str, tuple[str, int]]:
    """Those of :func:`trained_runs` that are measured and drawn: all but tokenizers."""
    return {run: one for run, one in trained_runs(study).items() if one[0] in study.analysed()}


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


def needed_run(study: Study, model: str) -> str | None:
    """Stem of the encoder that has to be trained before a model (BEiT's tokenizer), or None."""
    objective = study.models[model].objective
    needed = None if objective is None else objective.needs()
    return None if needed is None else run_name(needed, study.models[needed].seeds[0])


def needed_file(study: Study, model: str, encoders: str) -> str | None:
    """Path of what a model's objective needs, or None; the study's own encoders are in the folder ``encoders``."""
    needed, objective = needed_run(study, model), study.models[model].objective
    if needed is None:
        return None if objective is None else objective.given()
    return f"{encoders}/{needed}.safetensors"


def control_runs(study: Study) -> dict[str, tuple[str, int]]:
    """Stem of every untrained encoder of the study, with its name and seed."""
    return {run_name(name, seed): (name, seed) for name in study.controls() for seed in study.analysis.control_seeds}


def pair_runs(study: Study) -> dict[str, tuple[str, int]]:
    """Stem of every encoder, trained or not, that the main figures draw, with its name and seed."""
    drawn = study.pair()
    return {run: one for run, one in (trained_runs(study) | control_runs(study)).items() if one[0] in drawn}


def runs_with_decoder(study: Study) -> list[str]:
    """Stem of every trained encoder whose method paints pixels (SimMIM, MAE)."""
    return [run for run, (name, _) in trained_runs(study).items() if study.models[name].paints]


def decoder_figure_runs(study: Study) -> list[str]:
    """Those of Figure 11: the encoders that paint, and the controls of the architectures of a decoder with blocks."""
    architectures = {model.architecture for model in study.models.values() if model.deep_decoder}
    controls = [run for run, (name, _) in control_runs(study).items() if study.controls()[name] in architectures]
    return [*runs_with_decoder(study), *controls]


# ------------------------------------------------------------------------------------------------
# What decides an encoder
# ------------------------------------------------------------------------------------------------


def model_and_seed(study: Study, run: str) -> tuple[str, int]:
    """The model, or ``untrained_<architecture>``, and the seed of an encoder's stem such as ``moco_v3_seed0``.

    Raises:
        UserError: the study has no such encoder; the nearest one is named.
    """
    runs = trained_runs(study) | control_runs(study)
    if run not in runs:
        raise UserError(f"study {study.study!r} has no encoder {run!r}{nearest(run, runs)}")
    return runs[run]


def decides_encoder(study: Study, run: str) -> dict[str, Any]:
    """All settings that decide the weights of one encoder, as plain data, and none besides.

    It is the answer for the rule that trains, for the run folder and for the head of every row. Labels and notes,
    sibling seeds, other models, how often is logged or an encoder kept aside, and data sets that training does not read
    are not in it; neither is the number of training threads, on which only the last digits depend, as they do on the
    processor (see :class:`cl_vs_mim.config.Compute`). The precision is in it as it is written: what ``auto`` means on a
    CPU is measured, and stays with the run folder.

    Args:
        study: the study with the encoder.
        run: its stem, such as ``moco_v3_seed0`` or ``untrained_vit_seed0``.

    Raises:
        UserError: the study has no such encoder.
    """
    name, seed = model_and_seed(study, run)
    control = name in study.controls()
    architecture = study.architectures[study.controls()[name] if control else study.models[name].architecture]
    decided: dict[str, Any] = {"architecture": architecture.model_dump(mode="json", exclude={"label"}), "seed": seed}
    if control:
        return decided
    model = study.models[name]
    if model.timm is not None:
        return decided | {"timm": {"method": model.method, "tag": model.timm.tag}}
    if model.checkpoint is not None:  # its content is known by the file itself
        return decided | {"checkpoint": {"method": model.method, "format": model.checkpoint.format}}
    return decided | decides_weights(study, name)


def decides_weights(study: Study, name: str) -> dict[str, Any]:
    """What of a model's recipe decides its weights besides architecture and seed, as plain data.

    Raises:
        UserError: the model is taken from a checkpoint, and the study does not say how it was trained.
    """
    objective, training = study.models[name].recipe()
    decided: dict[str, Any] = {
        "objective": objective.decides(),
        "training": decides_training(training),
        "data": decides_training_images(study.data),
    }
    needed = needed_run(study, name)
    if needed is not None:
        decided["needs"] = decides_encoder(study, needed)
    return decided


def stated_recipe(study: Study, name: str) -> dict[str, Any]:
    """As much of :func:`decides_weights` as the study states of a model that may come from a checkpoint."""
    model = study.models[name]
    if model.objective is not None and model.training is not None:
        return decides_weights(study, name)
    return {} if model.objective is None else {"objective": model.objective.decides()}


def decides_training(training: Training) -> dict[str, Any]:
    """The settings of the optimisation that decide the weights, for any training.

    How often it logs or keeps an encoder is not among them, and how often it saves its state only where a rollback may
    return to that.
    """
    aside = {"log_steps", "snapshots"} | ({"checkpoint_steps"} if training.rollback_factor is None else set())
    return training.model_dump(mode="json", exclude=aside)


def decides_training_images(data: KitData | FolderData) -> dict[str, Any]:
    """The settings that decide the single-object images; their content enters by its hash."""
    if isinstance(data, FolderData):
        return data.model_dump(mode="json", include={"objects"})
    return data.model_dump(mode="json", include={"kit", "seed", "objects"})
