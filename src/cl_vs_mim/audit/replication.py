"""Studies at the paper's own scale that find its published values: how often is a perfect replication supported?

Each has seeds and images of its own, so that none finds the published value itself.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from cl_vs_mim.audit.claims import ClaimFile
from cl_vs_mim.audit.judge import Audit
from cl_vs_mim.audit.published import AUTHORS_OWN, SIZES, UNITS, Curve, Published
from cl_vs_mim.audit.series import Series, Source, Tables, control_of, seeds_of
from cl_vs_mim.audit.verdict import CONTRADICTED, SUPPORTED
from cl_vs_mim.config import Study
from cl_vs_mim.core.progress import progress

NOT_MEASURED = frozenset({"C12b"})  # asks for two sizes of a measure of which no published value stands for either
COLUMNS = ("claim", "seeds", "supported", "contradicted", "draws")

_IMAGES = tuple(f"val/{number:03}" for number in range(UNITS))
_LEAST_CONTROLS = 5
_FAR = 10.0  # standard deviations between seeds by which architectures differ untrained, where training does nothing

# ------------------------------------------------------------------------------------------------
# Tables
# ------------------------------------------------------------------------------------------------


def at_papers_scale(study: Study, seeds: int) -> Study:
    """The paper's study with several seeds of all, and the smaller encoders of Figure 1.

    Args:
        study: ``config/paper.yaml``.
        seeds: of every encoder; untrained ones have five or more.
    """
    models = {name: model.model_copy(update={"seeds": list(range(seeds))}) for name, model in study.models.items()}
    architectures = dict(study.architectures)
    for name in AUTHORS_OWN:
        kind = models[name].architecture
        for suffix, width in SIZES.items():
            if width is not None:
                architectures[kind + suffix] = architectures[kind].model_copy(update={"width": width})
                models[name + suffix] = models[name].model_copy(update={"architecture": kind + suffix})
    controls = {"control_seeds": list(range(max(_LEAST_CONTROLS, seeds))), "grids": []}
    analysis = study.analysis.model_copy(update=controls)
    return study.model_copy(update={"models": models, "architectures": architectures, "analysis": analysis})


class PublishedTables(Tables):
    """Series made of the published curves.

    Args:
        study: at the paper's scale.
        reference: table of published values.
        seed: of the noise.
        nothing: ``everywhere``: all encoders are the same but for noise; ``training``: each is as its own untrained
            encoder is, and the architectures differ by far; empty: as published.
        exact: whether the mean over seeds and images is the published value itself.
        instead: means (D,) or one for all depths, by model and by metric or table, instead of the published ones.
    """

    def __init__(
        self,
        study: Study,
        reference: Path,
        seed: int,
        *,
        nothing: str = "",
        exact: bool = False,
        instead: Mapping[tuple[str, str], np.ndarray] | None = None,
    ) -> None:
        super().__init__(study, Path("tables"))
        self.values = Published(reference)
        self.seed, self.nothing, self.exact, self.instead = seed, nothing, exact, instead or {}

    def _read(self, model: str, source: Source) -> Series:
        found = self._curve(model, source)
        metric = next((str(values[0]) for name, values in source.where if name == "metric"), source.table)
        if (model, metric) in self.instead:
            found = replace(found, means=np.broadcast_to(self.instead[model, metric], found.means.shape))
        rng = np.random.default_rng([self.seed, zlib.crc32(f"{model} {source}".encode())])
        images = _IMAGES[: found.images]
        shape = (len(seeds_of(self.study, model)), max(len(images), 1), len(found.depths))
        noise = rng.normal(0, found.by_seed, (shape[0], 1, shape[2]))
        if images:
            noise = noise + rng.normal(0, found.by_image, (1, *shape[1:])) + rng.normal(0, found.by_both, shape)
            together = np.random.default_rng([self.seed, zlib.crc32(source.table.encode())])
            noise = noise + 2 * found.by_image * together.normal(size=(1, shape[1], 1))
        if self.exact:
            noise -= noise.mean(axis=(0, 1), keepdims=True)
        errors = np.full((shape[0], shape[2]), found.errors) if found.errors else None
        return Series(
            model, found.depths, found.means + noise, images, errors, (Path("tables") / source.table / model,)
        )

    def _curve(self, model: str, source: Source) -> Curve:
        if self.nothing != "training":
            found = self.values.curve(self.study, model, source)
            return replace(found, means=np.full_like(found.means, 0.5)) if self.nothing else found
        control = control_of(self.study, model)
        found = self.values.curve(self.study, control, source)
        apart = _FAR * found.by_seed * (self.study.architectures[self.study.controls()[control]].family != "vit")
        return replace(found, means=found.means + apart)


# ------------------------------------------------------------------------------------------------
# Rates
# ------------------------------------------------------------------------------------------------


def support(
    file: ClaimFile, study: Study, reference: Path, seeds: Iterable[int], draws: int, first: int = 0
) -> pd.DataFrame:
    """How often each claim that the paper supports comes out so, and how often contradicted, by :data:`COLUMNS`.

    Args:
        file: claims and rules.
        study: ``config/paper.yaml``.
        reference: table of published values.
        seeds: of every encoder, each a row of every claim.
        draws: studies whose seeds and images are drawn anew.
        first: number of the first draw.
    """
    asked = {key: claim for key, claim in file.claims.items() if claim.contrasts and key not in NOT_MEASURED}
    rows = []
    for count in seeds:
        found = at_papers_scale(study, count)
        kinds: dict[str, list[str]] = {key: [] for key in asked}
        for draw in progress(range(first, first + draws), desc=f"published values, {count} seeds", unit="draw"):
            audit = Audit(file, PublishedTables(found, reference, draw), reference)
            for key, claim in asked.items():
                kinds[key].append(audit.judge_claim(claim)[0].kind)
        for key, said in kinds.items():
            shares = (said.count(SUPPORTED) / draws, said.count(CONTRADICTED) / draws)
            rows.append((key, count, *shares, draws))
    return pd.DataFrame(rows, columns=list(COLUMNS))
