"""The commands that look inside an encoder, and what decides the tables of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from cl_vs_mim.config import KitData, Study
from cl_vs_mim.config.encoders import decides_encoder, model_and_seed
from cl_vs_mim.config.objective import OBJECTIVES
from cl_vs_mim.config.tasks import decides_training_of
from cl_vs_mim.config.transfer import TASKS
from cl_vs_mim.core.commands import Command
from cl_vs_mim.core.options import Config, Device, EncoderFile, Objects, Run, Runs, Tables, Threads
from cl_vs_mim.core.registry import using
from cl_vs_mim.encoder.families import FAMILIES
from cl_vs_mim.metrics.register import metric_modules

DECIDES_NO_RESULT = True

# ------------------------------------------------------------------------------------------------
# extract
# ------------------------------------------------------------------------------------------------


def extract(
    *,
    config: Config,
    run: Run,
    encoder: EncoderFile = None,
    data: Objects,
    tables: Tables,
    stage: Literal["pretrained", "finetuned"] = "pretrained",
    grid: int | None = None,
    device: Device = "auto",
    threads: Threads = 2,
) -> None:
    """Measure everything behind Figures 2 to 8 in one pass of an encoder over the analysis images.

    Args:
        stage: whether the file holds the encoder as pre-trained or as fine-tuned.
        grid: patches a side of the images, if not the encoder's own number; positions are resampled.

    Example:
        cl-vs-mim extract --config config/demo.yaml --run moco_v3_seed0 --data results/demo/data/objects
          --encoder results/demo/encoders/moco_v3_seed0.safetensors --tables results/demo/tables
    """
    from cl_vs_mim.analysis import extract as work
    from cl_vs_mim.evaluated import open_run

    evaluation = open_run(config, run, encoder, device=device, threads=threads, stage=stage)
    place = f"grid{grid}/" if grid is not None else "finetuned/" if stage == "finetuned" else ""
    config_hash = EXTRACT.config_hash(evaluation.study, place + run)
    work.extract(evaluation, run, data, tables, grid=grid, threads=threads, config_hash=config_hash)


def _decides_extract(study: Study, run: str) -> dict[str, Any]:
    """What decides the tables of ``moco_v3_seed0``, ``finetuned/moco_v3_seed0`` or ``grid8/moco_v3_seed0``.

    Which head or block a figure shows of them is not in it: the tables hold all. Neither is the number of images in a
    batch, on which the last digits alone depend.
    """
    place, _, run = run.rpartition("/")
    interval = study.figures.bootstrap.model_dump(mode="json", include={"level", "seed"})
    decided = {
        "encoder": decides_encoder(study, run),
        "images": _images(study),
        "image_spectrum": study.analysis.spectrum.model_dump(mode="json") | interval,
    }
    if place.startswith("grid"):
        return decided | {"grid": int(place.removeprefix("grid"))}
    if place == "finetuned":
        decided["finetuning"] = decides_training_of(TASKS["finetuning"], study)
    return decided | {
        "attention_maps": study.figures.attention_maps.model_dump(mode="json", include={"image", "queries"}),
        "movement": study.analysis.movement.model_dump(mode="json"),
    }


def _code_of_extract(study: Study, run: str) -> tuple[str, ...]:
    with using(study.extensions):
        return ("cl_vs_mim.analysis.extract", *metric_modules(), _family(study, run.rpartition("/")[2]))


# ------------------------------------------------------------------------------------------------
# embedding
# ------------------------------------------------------------------------------------------------


def embedding(
    *,
    config: Config,
    run: Run,
    encoder: EncoderFile = None,
    data: Objects,
    tables: Tables,
    device: Device = "auto",
    threads: Threads = 2,
) -> None:
    """Embed the tokens of a few images in the plane by t-SNE, and measure how purely images and classes separate.

    Example:
        cl-vs-mim embedding --config config/demo.yaml --run untrained_vit_seed0 --data results/demo/data/objects
          --tables results/demo/tables
    """
    from cl_vs_mim.analysis.embedding import embed_tokens
    from cl_vs_mim.evaluated import open_run

    evaluation = open_run(config, run, encoder, device=device, threads=threads)
    embed_tokens(evaluation, run, data, tables, config_hash=EMBEDDING.config_hash(evaluation.study, run))


def _decides_embedding(study: Study, run: str) -> dict[str, Any]:
    return {
        "encoder": decides_encoder(study, run),
        "crop_fraction": study.analysis.crop_fraction,
        "embedding": study.analysis.embedding.model_dump(mode="json"),
    }


# ------------------------------------------------------------------------------------------------
# reconstruct
# ------------------------------------------------------------------------------------------------


def reconstruct(
    *,
    config: Config,
    run: Run,
    encoder: Path,
    data: Objects,
    tables: Tables,
    device: Device = "auto",
    threads: Threads = 2,
) -> None:
    """Paint a few masked images with an encoder's decoder, and measure the decoder's frequencies (Figure 11).

    Args:
        encoder: its file, .safetensors, with the decoder in it.

    Example:
        cl-vs-mim reconstruct --config config/quick.yaml --run mae_seed0 --data results/quick/data/objects
          --encoder results/quick/encoders/mae_seed0.safetensors --tables results/quick/tables
    """
    from cl_vs_mim.analysis import reconstruct as work
    from cl_vs_mim.evaluated import open_run

    evaluation = open_run(config, run, encoder, device=device, threads=threads)
    config_hash = RECONSTRUCT.config_hash(evaluation.study, run)
    work.reconstruct(evaluation, run, encoder, data, tables, threads=threads, config_hash=config_hash)


def _decides_reconstruct(study: Study, run: str) -> dict[str, Any]:
    return {
        "encoder": decides_encoder(study, run),
        "images": _images(study),
        "reconstruction": study.analysis.reconstruction.model_dump(mode="json"),
    }


def _code_of_reconstruct(study: Study, run: str) -> tuple[str, ...]:
    model, _ = model_and_seed(study, run)
    objective = OBJECTIVES.of(study).module(study.models[model].method)  # draws the masks, and names the decoder
    return ("cl_vs_mim.analysis.reconstruct", objective, _family(study, run))


# ------------------------------------------------------------------------------------------------
# snapshots
# ------------------------------------------------------------------------------------------------


def snapshots(
    *,
    config: Config,
    run: Run,
    encoder: EncoderFile = None,
    data: Objects,
    tables: Tables,
    runs: Runs | None = None,
    snapshots: Path | None = None,
    log_table: Path | None = None,
    threads: Threads = 2,
) -> None:
    """Measure the encoders that were kept while one was trained, to see when an effect appears.

    Give either the encoder with the folder of all runs, or the folder of the snapshots.

    Args:
        snapshots: folder of the snapshots, for an encoder that does not say which run it comes from.
        log_table: the training log, for the minutes.

    Example:
        cl-vs-mim snapshots --config config/overnight.yaml --run moco_v3_seed0
          --encoder results/overnight/encoders/moco_v3_seed0.safetensors --data results/overnight/data/objects
          --tables results/overnight/tables --runs results/overnight/runs
          --log-table results/overnight/tables/training/moco_v3_seed0.csv
    """
    from cl_vs_mim.analysis import snapshots as work
    from cl_vs_mim.config import load_study
    from cl_vs_mim.core.errors import UserError

    study = load_study(config)
    if snapshots is not None:
        files = work.snapshots_in(snapshots, run)
    elif encoder is not None and runs is not None:
        files = work.find_snapshots(run, encoder, runs)
    else:
        raise UserError("give --encoder and --runs, or --snapshots")
    config_hash = SNAPSHOTS.config_hash(study, run)
    work.measure_snapshots(study, run, files, data, tables, log=log_table, threads=threads, config_hash=config_hash)


def _decides_snapshots(study: Study, run: str) -> dict[str, Any]:
    found = study.analysis.phenomena
    measured = None if found is None else found.model_dump(mode="json", include={"images", "memory", "neighbours"})
    sample = study.analysis.model_dump(mode="json", include={"seed", "crop_fraction"})
    return {"encoder": decides_encoder(study, run), "images": sample, "snapshots": measured}


# ------------------------------------------------------------------------------------------------
# Card
# ------------------------------------------------------------------------------------------------


def card(*, config: Config, run: Run, weights: Path, tables: Tables, output: Path) -> None:
    """Write the card of an encoder that is handed on: how it was made, and its numbers.

    Args:
        weights: its file, as export-weights wrote it.
        output: file to write, .md.

    Example:
        cl-vs-mim card --config config/overnight.yaml --run moco_v3_seed0
          --weights weights/overnight/moco_v3_seed0.safetensors --tables results/overnight/tables
          --output weights/overnight/moco_v3_seed0.md
    """
    from cl_vs_mim.analysis import card as work
    from cl_vs_mim.config import load_study

    work.write_card(load_study(config), run, weights, tables, output)


def _decides_card(study: Study, run: str) -> dict[str, Any]:
    name, _ = model_and_seed(study, run)
    model = study.models[name]
    words = {"title": study.title, "reduced": study.reduced, "label": model.label, "paradigm": model.paradigm}
    return decides_encoder(study, run) | words | {"composed": isinstance(study.data, KitData)}


# ------------------------------------------------------------------------------------------------
# All
# ------------------------------------------------------------------------------------------------


def _images(study: Study) -> dict[str, Any]:
    """Which images are analysed, and how they are cropped."""
    return study.analysis.model_dump(mode="json", include={"images", "seed", "crop_fraction"})


def _family(study: Study, run: str) -> str:
    """Full name of the module of an encoder's architecture family."""
    name, _ = model_and_seed(study, run)
    architecture = study.controls()[name] if name in study.controls() else study.models[name].architecture
    return FAMILIES.of(study).module(study.architectures[architecture].family)


EXTRACT = Command("extract", extract, _decides_extract, _code_of_extract)
EMBEDDING = Command(
    "embedding",
    embedding,
    _decides_embedding,
    lambda study, run: ("cl_vs_mim.analysis.embedding", _family(study, run)),
)
RECONSTRUCT = Command("reconstruct", reconstruct, _decides_reconstruct, _code_of_reconstruct)
SNAPSHOTS = Command(
    "snapshots",
    snapshots,
    _decides_snapshots,
    lambda study, run: ("cl_vs_mim.analysis.snapshots", _family(study, run)),
)
CARD = Command("card", card, _decides_card, lambda study, run: ("cl_vs_mim.analysis.card",))
COMMANDS = (EXTRACT, EMBEDDING, RECONSTRUCT, SNAPSHOTS, CARD)
