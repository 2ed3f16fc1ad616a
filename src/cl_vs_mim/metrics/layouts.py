"""The tables that metrics go into, said once: metrics name one of them, the pass writes them, the audit reads them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """The columns of a table of measured values, besides image, depth and value.

    Attributes:
        axis: a further column, or None: ``head`` (-1 for a metric that has one value for all heads), ``rank``,
            ``frequency`` (in units of pi).
        named: whether it holds several metrics, told apart by a column ``metric``.
        whole: whether its depths are whole numbers.
    """

    axis: str | None = None
    named: bool = False
    whole: bool = False


# Of one pass over the analysis images, for every encoder and every grid. A new metric goes into one of these.
MEASURED = {
    "attention": Layout("head", named=True, whole=True),  # Figures 3 and 4
    "diversity": Layout("head", named=True, whole=True),  # Figure 5
    "movement": Layout(named=True),  # the numbers behind Figure 6
    "token_spectrum": Layout("rank"),  # Figure 7
    "image_spectrum": Layout("rank"),  # Figure 7; over all images, with an interval
    "fourier": Layout("frequency"),  # Figure 8
}
