"""Detection and instance segmentation on one encoder.

    python -m cl_vs_mim.transfer.detection --config config/demo.yaml --model moco_v3 --seed 0 \\
        --encoder results/demo/encoders/moco_v3_seed0.safetensors --data results/demo/data/scenes/coco \\
        --runs results/demo/runs --output detection.parquet --picture detection.png

``--output``   a row per task (box, mask), metric and category: average precision in percent, in COCO's definition.
``--picture``  validation images with the true and the predicted objects.

The training's state, its log (metrics.csv), detectron2's own log and its LazyConfig are in the run folder below
``--runs``. A killed run goes on where it was when the same command is given again.
"""

from __future__ import annotations

import argparse
import warnings
from importlib.util import find_spec
from pathlib import Path

from cl_vs_mim.core.errors import UserError, run_cli
from cl_vs_mim.pretrain.interrupt import add_stop_option


def main(arguments: argparse.Namespace) -> None:
    missing = [name for name in ("detectron2", "pycocotools") if find_spec(name) is None]
    if missing:
        raise UserError(
            f"{' and '.join(missing)} not installed; detection needs the extra 'detection' and detectron2.lock"
        )
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated")  # said by detectron2 when imported
    from cl_vs_mim.transfer.detection.command import main as run  # detectron2 takes seconds to import

    run(arguments)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m cl_vs_mim.transfer.detection",
        description="Train Mask R-CNN on one encoder, or go on with it; write average precision and a picture.",
    )
    parser.add_argument("--config", type=Path, required=True, help="the study's YAML, with transfer.detection")
    parser.add_argument("--model", required=True, help="a model of the study, or untrained_<architecture>")
    parser.add_argument("--seed", type=int, required=True, help="of the encoder, the heads, order and augmentation")
    parser.add_argument("--encoder", type=Path, help="native checkpoint; not for untrained_…")
    parser.add_argument("--data", type=Path, required=True, help="folder in COCO's layout")
    parser.add_argument("--runs", type=Path, required=True, help="where run folders live; keep it between calls")
    parser.add_argument("--output", type=Path, required=True, help="table, .parquet or .csv")
    parser.add_argument("--picture", type=Path, help="….png of predictions on validation images")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, help="CPU threads; the result depends on it in the last digits")
    add_stop_option(parser)
    return parser


if __name__ == "__main__":
    run_cli(main, parser())
