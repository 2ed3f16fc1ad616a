"""Fine-tuning: all weights of an encoder trained on labels, lower layers more slowly."""

from __future__ import annotations

from cl_vs_mim.config.tasks import Score, Task
from cl_vs_mim.transfer.finetuning.settings import FineTuning

TASK = Task(
    name="finetuning",
    title="fine-tuning: all weights trained on labels",
    section="transfer.finetuning",
    settings=FineTuning,
    train="cl_vs_mim.transfer.finetuning.train",
    evaluate="cl_vs_mim.transfer.finetuning.evaluate",
    tables=("finetuning",),
    also=("analysis.crop_fraction",),
    files={"tuned": "finetuned/{run}.safetensors", "log_table": "tables/finetuning_log/{run}.csv"},
    verb="finetune",
    scores=(
        Score(
            name="fine-tuning",
            title="fine-tuning (%)",
            table="finetuning",
            where={"split": "val"},
            rows="images",
            factor=100,
            chance="chance",
            published=("a (left)", "y"),
            place=20,
        ),
    ),
)
