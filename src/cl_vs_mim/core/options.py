"""Options that several commands have: the type of each, and what ``--help`` says of it, once.

What is particular to a command is in its docstring.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter, validators

DECIDES_NO_RESULT = True

Config = Annotated[Path, Parameter(help="the study, such as config/demo.yaml.")]
Run = Annotated[str, Parameter(help="the encoder, by model and seed, such as moco_v3_seed0 or untrained_vit_seed0.")]
EncoderFile = Annotated[Path | None, Parameter(help="the encoder's file, .safetensors; not for untrained ones.")]
Objects = Annotated[Path, Parameter(help="folder of the single-object images, with manifest.json.")]
Tables = Annotated[Path, Parameter(help="folder of all tables, with a folder for each kind in it.")]
Runs = Annotated[Path, Parameter(help="where run folders live; keep it between calls.")]
Device = Annotated[Literal["auto", "cpu", "cuda"], Parameter(help="auto takes a GPU if there is one.")]
Threads = Annotated[
    int,
    Parameter(
        validator=validators.Number(gte=1),
        help="CPU threads; the last digits of a result depend on how many there are.",
    ),
]
StopAfter = Annotated[
    float | None, Parameter(help="save the state and leave with status 75 after this long; the same command goes on.")
]
