"""Everything that is measured in one pass of an encoder, as streams, made from the register of metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from cl_vs_mim.analysis.streaming import BlockStream, Stream, TokenStream
from cl_vs_mim.core.errors import UserError, nearest
from cl_vs_mim.encoder.spec import EncoderSpec
from cl_vs_mim.metrics.layouts import MEASURED
from cl_vs_mim.metrics.register import WHOLE_BLOCKS, Metric, registered


def check_tables(metrics: Mapping[str, Metric]) -> None:
    """Compare what metrics give with the tables that they go into.

    Raises:
        UserError: a table does not exist, or has no room for such values.
    """
    alone: dict[str, str] = {}
    for one in metrics.values():
        if not one.table:
            continue
        if one.table not in MEASURED:
            raise UserError(f"metric {one.name!r} goes into table {one.table!r}{nearest(one.table, MEASURED)}")
        layout = MEASURED[one.table]
        if one.per != (layout.axis or "image") and (one.per, layout.axis) != ("image", "head"):
            raise UserError(
                f"metric {one.name!r} has one value per {one.per}, but table {one.table!r} one per "
                f"{layout.axis or 'image'}"
            )
        if layout.whole and not one.inside:
            raise UserError(f"table {one.table!r} is of what happens inside blocks, which {one.name!r} is not")
        if not layout.named and alone.setdefault(one.table, one.name) != one.name:
            raise UserError(f"table {one.table!r} holds {alone[one.table]!r} alone; {one.name!r} needs one of its own")


class Measurement:
    """One pass of one encoder: new and empty streams of all metrics that are defined on it.

    Iterating gives the streams, to be fed by :func:`cl_vs_mim.analysis.streaming.stream`.
    """

    def __init__(self, spec: EncoderSpec, metrics: Mapping[str, Metric] | None = None) -> None:
        """Prepare the streams.

        Args:
            spec: the encoder's specification.
            metrics: which to measure; all registered ones by default.

        Raises:
            UserError: a metric does not fit the table that it goes into.
        """
        chosen = registered() if metrics is None else metrics
        check_tables(chosen)
        self.metrics = {name: one for name, one in chosen.items() if one.applies_to(spec)}
        self.streams = {name: _stream_of(one, spec) for name, one in self.metrics.items() if one.streamed}

    def __iter__(self) -> Iterator[Stream]:
        return iter(self.streams.values())

    def of_table(self, table: str) -> list[str]:
        """Names of the metrics that go into a table, in its order."""
        return [name for name, one in self.metrics.items() if one.table == table]

    def result(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The values (M, S, …) of a metric for M images, float64, and the depths (S,) that they are of.

        A metric of other metrics' values is computed here, depth by depth.
        """
        if name in self.streams:
            return self.streams[name].result(), self.streams[name].depths()
        one = self.metrics[name]
        results = [self.result(other) for other in one.takes]
        depths = results[0][1]
        values = [one.function(*(array[:, place] for array, _ in results)) for place in range(len(depths))]
        return np.stack(values, axis=1), depths


def _stream_of(one: Metric, spec: EncoderSpec) -> Stream:
    function = one.bound(spec)
    if one.inside:
        return BlockStream(one.name, _of_block(function, one.takes))
    return TokenStream(one.name, function, every=2 if one.takes == (WHOLE_BLOCKS,) else 1)


def _of_block(function: Callable, takes: tuple[str, ...]) -> Callable:
    return lambda trace: function(*(getattr(trace, name) for name in takes))
