"""How each encoder looks, in all figures alike: the colour is its method's, in our points and in the paper's.

The paper's scheme: contrastive red, masked-image blue. In grey print the two hues are alike (L* 45 and 40), so the
kind is also in the line: solid, dashed, broken or dotted. Methods of one kind differ in shade and marker; several
encoders of one method (sizes) in lightness and marker. Hybrids lie between red and blue by their λ.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from matplotlib.colors import to_hex, to_rgb

from cl_vs_mim.config import Study

# Method -> colour, marker.
_METHODS = {
    "moco_v3": ("#c8321e", "s"),
    "dino": ("#e8836f", "D"),
    "simmim": ("#0b5fa5", "^"),
    "mae": ("#6fa8d6", "v"),
    "beit": ("#06345c", "<"),
    "supervised": ("#2e7d4f", "X"),
    "vq_tokenizer": ("#8a6d3b", "+"),
}
# Paradigm -> colours and markers of methods that the table does not name, in turn.
_OTHERS = {
    "cl": (("#7d1d10", "P"), ("#d98c2b", "d"), ("#b5476b", "s")),
    "mim": (("#2a9d9d", "<"), ("#4a4fb0", ">"), ("#7fb8a4", "v")),
    "hybrid": (("#8a4fb8", "p"),),
    "supervised": (("#7fb593", "d"), ("#174b2c", ">")),
    "tokenizer": (("#8a6d3b", "x"),),
}
_LINES = {
    "cl": "-",
    "mim": (0, (5, 1.5)),
    "hybrid": (0, (7, 1.5, 1.5, 1.5)),
    "supervised": (0, (2, 1)),
    "tokenizer": (0, (1, 1)),
}
_CONTROL_COLOURS = ("#6f6f6f", "#a3a3a3", "#454545")
_CONTROL_LINES = ((0, (3, 1.5, 1, 1.5)), (0, (1, 1.5)), (0, (2, 2)))
_SIZE_MARKERS = ("", "p", "h", "8", "H")  # of further encoders of one method
_SIZE_SHADES = (0.0, 0.35, -0.35, 0.6, -0.6)  # lighter or darker than the first
_LAMBDA_COLOURS = ("#3b52a8", "#8a4fb8", "#b8306f")  # λ 0, 1/2 and 1: near blue, purple, near red
_LAMBDA_MARKERS = "*hpH8d"  # λ 0 … 1 in fifths
_MUTED = 0.62  # share of white in the colours of published values
_UNKNOWN = "#b8b8b8"


@dataclass(frozen=True)
class SeriesStyle:
    """How one series looks."""

    color: str
    marker: str
    linestyle: object
    zorder: float
    hollow: bool = False  # a control: its marker hides no curve behind it

    def line(self) -> dict[str, object]:
        """Keyword arguments for ``Axes.plot``."""
        look = {"color": self.color, "marker": self.marker, "linestyle": self.linestyle, "zorder": self.zorder}
        return look | ({"markerfacecolor": "white"} if self.hollow else {})


def series_styles(study: Study) -> dict[str, SeriesStyle]:
    """A style for every model and control of the study, whatever of them a figure draws."""
    styles: dict[str, SeriesStyle] = {}
    seen: dict[str, tuple[tuple[str, str], int]] = {}  # method -> its first colour and marker, how many encoders
    others = dict.fromkeys(_OTHERS, 0)
    weights = hybrid_weights(study)
    for place, (name, model) in enumerate(study.models.items()):
        method, kind = model.method, model.paradigm
        if name in weights:
            color = lambda_colour(weights[name])
            marker = _LAMBDA_MARKERS[round(weights[name] * (len(_LAMBDA_MARKERS) - 1))]
        else:
            if method not in seen and method not in _METHODS:
                found = _OTHERS[kind][others[kind] % len(_OTHERS[kind])]
                others[kind] += 1
            elif method in seen:
                found = seen[method][0]
            else:
                found = _METHODS[method]
            turn = seen.get(method, (found, 0))[1]
            seen[method] = (found, turn + 1)
            size = turn % len(_SIZE_SHADES)
            color, marker = shaded(found[0], _SIZE_SHADES[size]), _SIZE_MARKERS[size] or found[1]
        styles[name] = SeriesStyle(color, marker, _LINES[kind], zorder=3 + place / 100)
    for place, name in enumerate(study.controls()):
        turn = place % len(_CONTROL_COLOURS)
        styles[name] = SeriesStyle(
            _CONTROL_COLOURS[turn], "o", _CONTROL_LINES[turn], zorder=2 + place / 100, hollow=True
        )
    return styles


def hybrid_weights(study: Study) -> dict[str, float]:
    """λ, the weight of the contrastive loss, of every hybrid of the study, in the order of λ."""
    weights = {name: model.mixing() for name, model in study.models.items()}
    weights = {name: weight for name, weight in weights.items() if not math.isnan(weight)}
    return dict(sorted(weights.items(), key=lambda pair: pair[1]))


def lambda_colour(weight: float) -> str:
    """The colour of a hybrid, from near blue (λ 0) through purple to near red (λ 1)."""
    channels = np.array([to_rgb(color) for color in _LAMBDA_COLOURS]).T
    return to_hex([float(np.interp(weight, [0, 0.5, 1], channel)) for channel in channels])


def published_colour(name: str) -> str:
    """The muted colour of a method as the paper writes it (``MoCo v3``, ``SimMIM†``, ``λ = 0.2``); else grey."""
    if found := re.search(r"(?:λ =|lambda=)\s*([\d.]+)", name):
        return shaded(lambda_colour(float(found[1])), _MUTED)
    colour, _ = _METHODS.get(method_key(name), (None, ""))
    return shaded(colour, _MUTED) if colour else _UNKNOWN


def method_key(name: str) -> str:
    """``moco_v3`` for ``MoCo v3†``: the key of a method whose name is as the paper writes it."""
    return re.sub(r"[^a-z0-9]+", "_", name.split("†")[0].lower()).strip("_")


def shaded(color: str, share: float) -> str:
    """The colour with this share of white; of black where it is negative."""
    goal = 1.0 if share > 0 else 0.0
    return to_hex([part + (goal - part) * abs(share) for part in to_rgb(color)])
