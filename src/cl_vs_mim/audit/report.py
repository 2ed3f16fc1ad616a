"""``report.html``: the audit as one file that needs no network, for readers, reviewers and printers."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape
from PIL import Image
from pydantic import ValidationError

from cl_vs_mim.audit import verdict as rule
from cl_vs_mim.audit.compare import by_scale, rows
from cl_vs_mim.audit.plots import interval_plot, multiverse_plots, number
from cl_vs_mim.audit.rates import rate_plots
from cl_vs_mim.audit.result import VERDICTS, ClaimRecord, Report
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.pictures import opened
from cl_vs_mim.core.untrusted import read_text, reason

DATA_FILES = ("templates/report.html.jinja", "templates/report.css", "templates/report.js")

_FIGURE_WIDTH = 1500  # px; twice what the page shows
_FIGURE_COLOURS = 200
_CLASS = {
    rule.SUPPORTED: "supported",
    rule.INCONCLUSIVE: "open",
    rule.EQUIVALENT: "nothing",
    rule.CONTRADICTED: "contradicted",
    rule.NOT_TESTED: "untested",
}
_SYMBOLS = dict(zip(VERDICTS, ("✓", "(✓)", "?", "(=)", "=", "(✗)", "✗", "–"), strict=True))
_CLASSES = {verdict: _CLASS[verdict.removesuffix(rule.ON_THESE)] for verdict in VERDICTS}

# ------------------------------------------------------------------------------------------------
# Input
# ------------------------------------------------------------------------------------------------


def read_report(path: Path) -> Report:
    """``claims.json``, checked.

    Raises:
        UserError: the file is missing or is of another version of this package.
    """
    try:
        return Report.model_validate_json(read_text(path, "annotation"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read ({reason(error)}); make it with: snakemake --cores all audit"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{path} is not an audit of this version ({where}: {first['msg']}); make it again") from error


def figure_data(path: Path) -> str:
    """A picture as a ``data:`` address, no larger than the page shows it.

    Raises:
        UserError: there is no such picture.
    """
    with opened(path, "picture", f"draw it with: snakemake --cores all {path}") as image:
        height = max(1, round(image.height * min(1.0, _FIGURE_WIDTH / image.width)))
        small = image.convert("RGB").resize((min(image.width, _FIGURE_WIDTH), height), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    small.quantize(_FIGURE_COLOURS).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


# ------------------------------------------------------------------------------------------------
# Page
# ------------------------------------------------------------------------------------------------


def deciding(claim: ClaimRecord) -> int | None:
    """Which contrast the verdict hangs on; its reason speaks of the same."""
    return next((place for place, one in enumerate(claim.contrasts) if one.name == claim.decided_by), None)


def written_rule() -> list[Markup]:
    """The steps of the rule, with their emphasis."""
    return [Markup(re.sub(r"\*(.+?)\*", r"<em>\1</em>", str(escape(step)))) for step in rule.RULE]


def render(
    report: Report, figures: Mapping[str, str], others: Sequence[Report] = (), rates: pd.DataFrame | None = None
) -> str:
    """The page.

    Args:
        report: the audit of the study.
        figures: pictures as ``data:`` addresses, by the names that claims give.
        others: audits of other studies, shown beside it.
        rates: the rules' error rates, of :func:`.simulate.table`.
    """
    environment = Environment(
        loader=PackageLoader("cl_vs_mim.audit"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    studies = by_scale([report, *others])
    return environment.get_template("report.html.jinja").render(
        report=report,
        figures=figures,
        others=others,
        order={verdict: place for place, verdict in enumerate(VERDICTS)},
        symbols=_SYMBOLS,
        classes=_CLASSES,
        rule=written_rule(),
        deciding=deciding,
        interval_plot=interval_plot,
        multiverse_plots=multiverse_plots,
        rates=[] if rates is None else rate_plots(rates, report.level),
        not_tested=rule.NOT_TESTED,
        studies=studies,
        compared=rows(studies) if others else [],
    )
