"""Small tables with known values for the tests of the audit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

IMAGES = 20


def write_attention(tables: Path, model: str, values: list[float], seed: int = 0, spread: float = 0.5) -> Path:
    """NMI ``values`` by depth, heads ``spread`` around it, images that differ a little; 1 minus it as similarity."""
    rng = np.random.default_rng([len(model), seed])
    rows = [
        {
            "image": f"val/{image}",
            "depth": depth + 1,
            "head": head,
            "metric": metric,
            "value": offset + sign * (value + spread * (2 * head - 1) + noise),
            "seed": seed,
            "model": model,
            "git_commit": "abc",
        }
        for image, noise in enumerate(rng.normal(0, 0.01, IMAGES))
        for depth, value in enumerate(values)
        for head in (0, 1)
        for metric, sign, offset in (("nmi", 1, 0), ("query_similarity", -1, 1))
    ]
    return _append(tables / "attention" / f"{model}_seed{seed}.parquet", rows)


def write_rows(tables: Path, kind: str, model: str, rows: list[dict], seed: int = 0) -> Path:
    """A table of any kind."""
    return _append(tables / kind / f"{model}_seed{seed}.parquet", rows)


def _append(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(path)
    return path


def write_pair(tables: Path) -> None:
    """The pair of the smoke study and its controls: late in depth, SimMIM exceeds MoCo v3 by 0.5, untrained by 0.1."""
    write_attention(tables, "moco_v3", [0.5, 0.2, 0.1])
    write_attention(tables, "simmim", [0.5, 0.6, 0.7])
    write_attention(tables, "untrained_vit", [0.0, 0.0, 0.0])
    write_attention(tables, "untrained_beit", [0.0, 0.1, 0.1])
