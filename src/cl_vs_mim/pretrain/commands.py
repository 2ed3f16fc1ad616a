"""The commands that encoders come from: pre-training, and taking one that was trained elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from cl_vs_mim.config import Study
from cl_vs_mim.config.encoders import decides_encoder, model_and_seed, stated_recipe
from cl_vs_mim.core.commands import Command
from cl_vs_mim.core.registry import using
from cl_vs_mim.encoder.families import FAMILIES
from cl_vs_mim.pretrain.closure import training_code

DECIDES_NO_RESULT = True


def pretrain(
    *,
    config: Path,
    run: str,
    data: Path,
    runs: Path,
    output: Path,
    log_table: Path | None = None,
    needs: Path | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    devices: int = 1,
    nodes: int = 1,
    threads: int | None = None,
    stop_after_minutes: float | None = None,
) -> None:
    """Train one model of a study with one seed, or go on with it, and export its encoder.

    A run that was killed goes on from its last checkpoint and ends with the weights of an undisturbed one.

    Args:
        config: the study, such as config/demo.yaml.
        run: the encoder, by model and seed, such as moco_v3_seed0.
        data: folder of the images, with train/ and manifest.json.
        runs: where run folders live; keep it between calls.
        output: file of the encoder, .safetensors.
        log_table: copy of the training log as a tidy table, .csv or .parquet.
        needs: file of the model that the objective needs, as this command exported it; for beit, its tokenizer.
        device: auto takes GPUs if there are any.
        devices: processes of this machine that train together.
        nodes: machines, each with that many devices.
        threads: CPU threads; the last digits of the weights depend on how many there are.
        stop_after_minutes: save the state and leave with status 75 after this long; the same command goes on.

    Example:
        cl-vs-mim pretrain --config config/quick.yaml --run moco_v3_seed0 --data results/quick/data/objects
          --runs results/quick/runs --output results/quick/encoders/moco_v3_seed0.safetensors
    """
    from cl_vs_mim.config import load_study
    from cl_vs_mim.core.errors import UserError
    from cl_vs_mim.pretrain import run as training
    from cl_vs_mim.pretrain.interrupt import deadline_after

    deadline = deadline_after(stop_after_minutes)
    study = load_study(config)
    model, _ = model_and_seed(study, run)
    if model not in study.models:
        raise UserError(f"{run} is an untrained encoder, drawn from its seed: there is nothing to train")
    fabric = training.start(device, study.models[model].recipe()[1], devices, nodes, threads)
    training.pretrain(
        study, run, data, runs, output, log_table=log_table, needs=needs, fabric=fabric, deadline=deadline
    )


def _code(study: Study, run: str) -> tuple[str, ...]:
    model = study.models[model_and_seed(study, run)[0]]
    family = study.architectures[model.architecture].family
    with using(study.extensions):
        return ("cl_vs_mim.pretrain.run", *training_code(model.method, family))


def import_encoder(*, config: Path, run: str, checkpoint: Path | None = None, output: Path) -> None:
    """Take the encoder of a model from a file or from timm's hub, as the study says, instead of training it.

    Architecture, method, seed and recipe are compared with what the file says of itself. Nothing in it is run as code.

    Args:
        config: the study, such as config/demo.yaml.
        run: the encoder, by model and seed, such as moco_v3_seed0.
        checkpoint: the file, as the study names it; left out, timm's, from the hub.
        output: file of the encoder, .safetensors.

    Example:
        cl-vs-mim import-encoder --config config/demo.yaml --run moco_v3_seed0
          --checkpoint weights/overnight/moco_v3_seed0.safetensors
          --output results/demo/encoders/moco_v3_seed0.safetensors
    """
    from cl_vs_mim.config import load_study
    from cl_vs_mim.pretrain import imported

    imported.import_encoder(load_study(config), run, checkpoint, output)


def _decides_import(study: Study, run: str) -> dict[str, Any]:
    name, _ = model_and_seed(study, run)
    return decides_encoder(study, run) | {"recipe": stated_recipe(study, name)}  # compared with what the file says


def _code_of_import(study: Study, run: str) -> tuple[str, ...]:
    model = study.models[model_and_seed(study, run)[0]]
    family = study.architectures[model.architecture].family
    return ("cl_vs_mim.pretrain.imported", FAMILIES.of(study).module(family))


def export_weights(*, config: Path, run: str, encoder: Path, output: Path) -> None:
    """Write a trained encoder in float16, with its recipe in the header, to be handed on.

    Args:
        config: the study that trained it.
        run: the encoder, by model and seed, such as moco_v3_seed0.
        encoder: its file, as pretrain wrote it.
        output: file to write, .safetensors.

    Example:
        cl-vs-mim export-weights --config config/overnight.yaml --run moco_v3_seed0
          --encoder results/overnight/encoders/moco_v3_seed0.safetensors
          --output weights/overnight/moco_v3_seed0.safetensors
    """
    from cl_vs_mim.config import load_study
    from cl_vs_mim.pretrain import weights

    weights.export_weights(load_study(config), run, encoder, output)


COMMANDS = (
    Command("pretrain", pretrain, decides_encoder, _code),
    Command("import-encoder", import_encoder, _decides_import, _code_of_import),
    Command("export-weights", export_weights, decides_encoder, lambda study, run: ("cl_vs_mim.pretrain.weights",)),
)
