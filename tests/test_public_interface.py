"""The names of the design stand where it says, and reading them does not wait for torch."""

from __future__ import annotations

import subprocess
import sys

import cl_vs_mim.metrics


def test_every_public_metric_is_a_function_of_that_name() -> None:
    for name in cl_vs_mim.metrics.__all__:
        assert getattr(cl_vs_mim.metrics, name).__name__ == name


def test_encoders_are_reached_from_the_package() -> None:
    from cl_vs_mim import load_encoder
    from cl_vs_mim.encoder import Encoder, EncoderSpec, build_encoder

    encoder = build_encoder(EncoderSpec("vit", 16, 8, 8, 1, 2), 0)
    assert isinstance(encoder, Encoder) and load_encoder.__name__ == "load_encoder"


def test_what_the_workflow_reads_imports_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys, cl_vs_mim, cl_vs_mim.metrics, cl_vs_mim.encoder, cl_vs_mim.config\n"
        "print([name for name in ('torch', 'timm', 'matplotlib', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
