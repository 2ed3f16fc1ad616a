"""Train a segmenter from an encoder and measure it.

    python -m cl_vs_mim.transfer.segmentation --config config/demo.yaml --model moco_v3 --seed 0 \\
        --encoder results/demo/encoders/moco_v3_seed0.safetensors --data results/demo/data/scenes/ade20k \\
        --runs results/demo/runs --output segmentation.parquet --picture segmentation.png

``--output``   a row per metric and category, per cent: ``mIoU``, ``mAcc``, ``aAcc`` over all, ``IoU``, ``Acc`` of each.
``--picture``  validation images, their labels, and what the segmenter says.

The training's state and log are in the run folder below ``--runs``; the same command goes on with a killed run.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

from cl_vs_mim.core.errors import UserError, run_cli
from cl_vs_mim.evaluated import add_subject_arguments
from cl_vs_mim.pretrain.interrupt import add_stop_option


def main(arguments: argparse.Namespace) -> None:
    if missing := [name for name in ("mmseg", "mmengine") if find_spec(name) is None]:
        raise UserError(f"{' and '.join(missing)} not installed; segmentation needs the extra 'segmentation'")
    from cl_vs_mim.transfer.segmentation.command import main as run  # mmseg takes seconds to import

    run(arguments)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m cl_vs_mim.transfer.segmentation", description="Train a segmenter and measure it."
    )
    add_subject_arguments(parser)
    parser.add_argument("--runs", type=Path, required=True, help="where run folders live; keep it between calls")
    parser.add_argument("--output", type=Path, required=True, help="table of results")
    parser.add_argument("--picture", type=Path, help="….png of predictions on validation images")
    add_stop_option(parser)
    return parser


if __name__ == "__main__":
    run_cli(main, parser())
