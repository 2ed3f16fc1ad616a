"""The tables that this floor writes, said once: the commands write these, the rules name them as outputs."""

from __future__ import annotations

from cl_vs_mim.metrics.layouts import MEASURED

DRAWN = ("attention_maps", "attention_image", "movement_tokens")  # of a few images: Figures 2 and 6
EXTRACTED = (*MEASURED, *DRAWN)
EMBEDDED = ("embedding", "embedding_purity")  # Figure E.2
RECONSTRUCTED = ("reconstruction", "decoder_fourier")  # Figure 11
