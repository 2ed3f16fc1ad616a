"""``docs/findings.md``: what the audit of a study comes to, in our words, with its numbers."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from cl_vs_mim.audit.plots import number as plain
from cl_vs_mim.audit.report import deciding
from cl_vs_mim.audit.result import VERDICTS, ClaimRecord, ContrastRecord, EffectRecord, Report
from cl_vs_mim.audit.verdict import ON_THESE
from cl_vs_mim.core.errors import UserError, nearest

DATA_FILES = ("templates/findings.md.jinja",)

_TEMPLATE = DATA_FILES[0].rpartition("/")[2]


def page(report: Report) -> str:
    """The page, in Markdown.

    The template's sentences name the verdicts that they rest on. One that the audit no longer bears is not written.

    Args:
        report: the audit of the study that the page is about.

    Raises:
        UserError: a sentence of the template and the audit disagree, or it names a claim that there is not.
    """

    def claim(name: str) -> ClaimRecord:
        if name not in report.claims:
            raise UserError(f"{_TEMPLATE} names claim {name!r}{nearest(name, report.claims)}")
        return report.claims[name]

    def contrast(name: str, place: int) -> ContrastRecord:
        return claim(name).contrasts[place]

    def resting_on(*names: str, verdict: str) -> str:
        """Nothing; stops the page when a claim's kind of verdict is another one than the sentence rests on."""
        for name in names:
            found = claim(name).verdict.removesuffix(ON_THESE)
            if found != verdict:
                raise UserError(f"{_TEMPLATE} calls {name} {verdict!r}, the audit calls it {found!r}: write it anew")
        return ""

    environment = Environment(
        loader=PackageLoader("cl_vs_mim.audit"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = environment.get_template(_TEMPLATE).render(
        report=report,
        seeds=max(one.seeds for one in report.claims.values()),
        control_seeds=max(one.control_seeds or 0 for one in report.claims.values()),
        counted={verdict: report.verdicts[verdict] for verdict in VERDICTS if report.verdicts.get(verdict)},
        rows=[
            (name, one, one.contrasts[place])
            for name, one in report.claims.items()
            if (place := deciding(one)) is not None
        ],
        untested=untested(report),
        resting_on=resting_on,
        value=lambda name, place=0: number(contrast(name, place).effect),
        beyond=lambda name, place=0: number(_there(name, contrast(name, place).beyond_control)),
        number=number,
        plain=plain,
    )
    return text.rstrip("\n") + "\n"


def untested(report: Report) -> dict[str, list[str]]:
    """Why claims were not measured: reason -> names."""
    found: dict[str, list[str]] = {}
    for name, claim in report.claims.items():
        if not claim.decided_by:
            found.setdefault(claim.reason, []).append(name)
    return found


def number(effect: EffectRecord) -> str:
    """A number with its interval, such as ``0.12 [0.1, 0.14]``."""
    interval = "" if effect.low is None else f" [{plain(effect.low)}, {plain(effect.high)}]"
    return plain(effect.value) + interval


def _there(name: str, effect: EffectRecord | None) -> EffectRecord:
    if effect is None:
        raise UserError(f"{_TEMPLATE} asks for {name} beyond the untrained encoders, which do not enter that way")
    return effect
