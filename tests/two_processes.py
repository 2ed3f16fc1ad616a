"""Methods trained in float64 by as many processes as are said, and the encoders written down.

``python tests/two_processes.py STUDY.yaml DEVICES OUTPUT.pt MODEL …``; ``test_pretrain_processes.py`` compares.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from cl_vs_mim.config import load_study
from cl_vs_mim.pretrain.precision import make_fabric
from cl_vs_mim.pretrain.registry import build_objective
from cl_vs_mim.pretrain.sources import MemorySource
from cl_vs_mim.pretrain.trainer import Trainer

STEPS, IMAGES, SIZE = 15, 12, 16


def main() -> None:
    study, devices, output = load_study(Path(sys.argv[1])), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    single = torch.Tensor.float
    torch.Tensor.float = lambda tensor: tensor if tensor.dtype == torch.float64 else single(tensor)  # type: ignore
    # losses ask for float32, whose rounding would be amplified instead of that of float64
    images = torch.randint(
        0, 256, (IMAGES, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    found = {}
    fabric = make_fabric("cpu", "64-true", devices, 1)
    fabric.launch()
    for name in sys.argv[4:]:
        model = study.models[name]
        objective = build_objective(model, study.architectures[model.architecture], 0)
        if model.objective.needs() is not None:
            tokenizer = build_objective(study.models["tokenizer"], study.architectures["vit"], 0)
            objective.attach(tokenizer.encoder, tokenizer.export_decoder())
        trainer = Trainer(objective, model.training, SIZE, 0, 2, fabric)
        before = objective.encoder.state_dict()
        begun = torch.cat([value.double().flatten() for value in before.values()])
        source = MemorySource(images, torch.arange(IMAGES) % 3, trainer.plan())
        gradients = []
        for _ in range(STEPS):
            line, _ = trainer.run_step(source)
            gradients.append(line["grad_norm"])
        ended = torch.cat([value.double().flatten() for value in objective.encoder.state_dict().values()])
        found[name] = {"begun": begun, "ended": ended, "grad_norm": gradients}
    if fabric.is_global_zero:
        torch.save(found, output)


if __name__ == "__main__":
    main()
