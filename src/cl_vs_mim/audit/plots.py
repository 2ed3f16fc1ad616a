"""Small inline SVGs of the report: intervals against their margins, and the multiverse. Colours are the page's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

from cl_vs_mim.audit.result import ClaimRecord, ContrastRecord, EffectRecord
from cl_vs_mim.audit.verdict import ON_THESE

_WIDTH = 380  # of the view box; the page scales it
_EDGE = 12  # free space left and right
_ROW = 20  # height of an interval
_THIN = 3.0  # height of a universe's interval
_AXIS = 18

# ------------------------------------------------------------------------------------------------
# Scales
# ------------------------------------------------------------------------------------------------


class _Scale:
    """Values to horizontal places; holds everything that is drawn."""

    def __init__(self, values: Iterable[float | None]) -> None:
        known = [value for value in values if value is not None]
        low, high = min(known), max(known)
        room = 0.06 * (high - low) or max(abs(high), 1.0) * 0.1
        self.low, self.high = low - room, high + room

    def __call__(self, value: float) -> float:
        return round(_EDGE + (value - self.low) / (self.high - self.low) * (_WIDTH - 2 * _EDGE), 2)


def _svg(height: float, label: str, body: list[str]) -> Markup:
    """One picture with a text for those who cannot see it."""
    inside = "".join(body)
    return Markup(
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{escape(label)}" '
        f'preserveAspectRatio="xMinYMin meet">{inside}</svg>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1}" y1="{y1:.2f}" x2="{x2}" y2="{y2:.2f}"/>'


def _interval(scale: _Scale, effect: EffectRecord, y: float, kind: str, radius: float) -> str:
    centre = f'<circle class="{kind}" cx="{scale(effect.value)}" cy="{y:.2f}" r="{radius}"/>'
    if effect.low is None or effect.high is None:
        return centre
    return _line(scale(effect.low), y, scale(effect.high), y, f"bar {kind}") + centre


def _text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    return f'<text x="{x}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def number(value: float | None) -> str:
    """Three significant digits, a true minus; a dash for nothing."""
    return "–" if value is None else f"{value:.3g}".replace("-", "−")


# ------------------------------------------------------------------------------------------------
# Pictures
# ------------------------------------------------------------------------------------------------


def interval_plot(contrast: ContrastRecord) -> Markup:
    """Effect, what of it exceeds the untrained encoders, margin with what matters beyond it, and the paper's value."""
    effects = [contrast.effect, *([contrast.beyond_control] if contrast.beyond_control else [])]
    published, margin, small = contrast.published, contrast.margin, contrast.smallest
    ends = (margin - small, margin + small)
    scale = _Scale([*ends, published, *(v for e in effects for v in (e.value, e.low, e.high))])
    height = _ROW * len(effects) + _AXIS
    left, right, middle = scale(ends[0]), scale(ends[1]), scale(margin)
    body = [
        f'<rect class="small" x="{left}" y="2" width="{right - left:.2f}" height="{height - _AXIS + 2}"/>',
        _line(middle, 2, middle, height - _AXIS + 4, "margin"),
        _text(middle, height - 4, number(margin)),
    ]
    if published is not None:
        place, y = scale(published), _ROW / 2
        body.append(f'<path class="published" d="M{place} {y - 6}l6 6l-6 6l-6 -6z"/>')
    for row, (effect, kind) in enumerate(zip(effects, ("ours", "beyond"), strict=False)):
        body.append(_interval(scale, effect, (row + 0.5) * _ROW, kind, 4))
    label = f"{contrast.name}: {number(contrast.effect.value)}, margin {number(margin)}"
    return _svg(height, label, body)


def multiverse_plots(claim: ClaimRecord) -> list[tuple[str, Markup]]:
    """For each contrast its effects in all universes, sorted; those that judge otherwise stand out."""
    kind = claim.verdict.removesuffix(ON_THESE)
    agree = [one.verdict.removesuffix(ON_THESE) == kind for one in claim.multiverse]
    return [
        (contrast.name, _multiverse_plot(contrast, [one.effects[place] for one in claim.multiverse], agree))
        for place, contrast in enumerate(claim.contrasts)
    ]


def _multiverse_plot(contrast: ContrastRecord, effects: Sequence[EffectRecord], agree: Sequence[bool]) -> Markup:
    scale = _Scale([contrast.margin, *(v for e in (contrast.effect, *effects) for v in (e.value, e.low, e.high))])
    order = sorted(range(len(effects)), key=lambda place: effects[place].value)
    thin = max(_THIN, min(12.0, 90 / max(len(effects), 1)))
    height = thin * len(effects) + 10 + _AXIS
    margin = scale(contrast.margin)
    body = []
    if contrast.effect.low is not None and contrast.effect.high is not None:
        left, right = scale(contrast.effect.low), scale(contrast.effect.high)
        body.append(
            f'<rect class="stated" x="{left}" y="0" width="{max(right - left, 1):.2f}" height="{height - _AXIS:.1f}"/>'
        )
    body += [_line(margin, 0, margin, height - _AXIS + 4, "margin"), _text(margin, height - 4, number(contrast.margin))]
    for row, place in enumerate(order):
        kind = "agrees" if agree[place] else "differs"
        body.append(_interval(scale, effects[place], 5 + (row + 0.5) * thin, kind, min(3.0, thin / 2)))
    return _svg(height, f"{contrast.name} in {len(effects)} universes, {sum(agree)} with the same verdict", body)
