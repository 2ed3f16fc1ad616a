"""The commands of the audit: ``claims`` judges, ``report`` and ``pitfalls`` write pages for readers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cl_vs_mim.core.commands import Command

if TYPE_CHECKING:
    from cl_vs_mim.config import Study

DECIDES_NO_RESULT = True

_CLAIMS = Path("config/claims.yaml")
_REGISTERED = Path("config/preregistration.yaml")
_RESULTS = Path("results")
_PAPER = Path("config/paper.yaml")
_REFERENCE = Path("results/reference/reference_values.csv")

# ------------------------------------------------------------------------------------------------
# Verdicts
# ------------------------------------------------------------------------------------------------


def claims(
    *,
    config: Path,
    tables: Path,
    output: Path,
    claims: Path = _CLAIMS,
    reference: Path = _REFERENCE,
    registered: Path = _REGISTERED,
) -> None:
    """Judge every claim of the paper by the tables of a study.

    Args:
        config: the study's YAML.
        tables: folder of the study's tables, `results/<study>/tables`.
        output: claims.json; its schema comes beside it, as claims.schema.json.
        claims: the claims, as contrasts that tables can decide.
        reference: the table of published values.
        registered: which claims and rules were fixed when.

    Raises:
        UserError: the claims are not valid, or the published values are missing. A claim whose tables are missing is
            not tested, which is no error.

    Example:
        cl-vs-mim claims --config config/demo.yaml --tables results/demo/tables --output results/demo/claims.json
    """
    from cl_vs_mim.audit.claims import load_claims
    from cl_vs_mim.audit.judge import Audit
    from cl_vs_mim.audit.registration import read
    from cl_vs_mim.audit.result import json_schema
    from cl_vs_mim.audit.series import Tables
    from cl_vs_mim.config import load_study
    from cl_vs_mim.core.files import sha256_file, write_json, write_text

    study = load_study(config)
    audit = Audit(load_claims(claims), Tables(study, tables), reference, read(registered))
    report = audit.report(sha256_file(claims), CLAIMS.config_hash(study, study.study))
    write_json(output.with_suffix(".schema.json"), json_schema())
    write_text(output, report.model_dump_json(indent=2) + "\n")
    for verdict, count in report.verdicts.items():
        print(f"{count:3} {verdict}")


def preregister(
    *,
    reason: str = "",
    config: Path | None = None,
    results: Path = _RESULTS,
    claims: Path = _CLAIMS,
    output: Path = _REGISTERED,
) -> None:
    """Fix the claims and rules at hand, by their hashes, before a study is run; or note a study that is run under them.

    Args:
        reason: what is new in this version of them.
        config: YAML of a study that is run under them, from which on they can only be changed as a new version.
        results: folder of all studies' results; a study with tables or an audit there is noted as registered after it.
        claims: the claims and what their rules leave to be fixed.
        output: the list of versions, which is added to.

    Raises:
        UserError: claims or rules have changed since a study was run, but rule.version of the claims has not; or a
            new version has no reason.

    Example:
        cl-vs-mim preregister --reason "more seeds are asked for"
    """
    from cl_vs_mim.audit.claims import load_claims
    from cl_vs_mim.audit.registration import as_yaml, at_hand, read, registered, run_of
    from cl_vs_mim.config import load_study
    from cl_vs_mim.core.errors import UserError
    from cl_vs_mim.core.files import write_text

    known = read(output)
    now = at_hand(load_claims(claims), reason or (known[-1].reason if known and not known[-1].studies else ""))
    run = None
    if config is not None:
        study = load_study(config)
        run = run_of(study.study, study.figures.bootstrap.level, results)
    found = registered(now, known, run)
    if not found[-1].reason:
        raise UserError("say with --reason what is new in this version")
    write_text(output, as_yaml(found))
    if run is not None and run.noted == "after":
        print(f"{results / run.study} was made already: the study is noted as registered after it was run")
    print(f"version {found[-1].version} of {found[-1].date}, claims {now.claims[:12]}, rules {now.rules[:12]}")


def _claims_decide(study: Study, run: str) -> dict[str, Any]:
    """Settings of the intervals, and what the words of a claim (``cl``, ``mim:largest``) mean in the study."""
    models = {
        name: {
            "label": model.label,
            "method": model.method,
            "paradigm": model.paradigm,
            "architecture": model.architecture,
            "family": study.architectures[model.architecture].family,
            "width": study.architectures[model.architecture].width,
        }
        for name, model in study.analysed().items()
    }
    return {
        "study": study.study,
        "title": study.title,
        "reduced": study.reduced,
        "expectation": study.expect.result,
        "pair": list(study.figures.pair),
        "bootstrap": study.figures.bootstrap.model_dump(mode="json"),
        "grids": list(study.analysis.grids),
        "controls": {name: study.architectures[kind].label for name, kind in study.controls().items()},
        "models": models,
    }


# ------------------------------------------------------------------------------------------------
# Pages
# ------------------------------------------------------------------------------------------------


def report(
    *,
    claims: Path,
    output: Path,
    figures: list[Path] | None = None,
    others: list[Path] | None = None,
    rates: Path | None = None,
) -> None:
    """Write the audit as one page that needs no network.

    Args:
        claims: claims.json of the study.
        output: the page, HTML.
        figures: PNGs of the study, named as the claims name them.
        others: claims.json of other studies, shown beside it.
        rates: the rules' error rates, from audit-rates, to be drawn.

    Raises:
        UserError: a file is missing, or an audit is of another version of this package.

    Example:
        cl-vs-mim report --claims results/demo/claims.json --figures figures/fig3.png --output results/demo/report.html
    """
    from cl_vs_mim.audit.report import figure_data, read_report, render
    from cl_vs_mim.core.files import write_text
    from cl_vs_mim.core.tables import read_table

    found = read_report(claims)
    beside = [one for one in map(read_report, others or ()) if one.study != found.study]
    pictures = {path.stem: figure_data(path) for path in figures or ()}
    write_text(output, render(found, pictures, beside, None if rates is None else read_table(rates)))


def audit_rates(*, output: Path, claims: Path = _CLAIMS) -> None:
    """Simulate how often the rules of the verdict err, for every kind of claim, number of seeds and size of effect.

    Args:
        output: the table, CSV.
        claims: the claims, whose ``simulation`` says what is simulated.

    Raises:
        UserError: the claims are not valid.

    Example:
        cl-vs-mim audit-rates --output results/demo/audit_rates.csv
    """
    from cl_vs_mim.audit.claims import load_claims
    from cl_vs_mim.audit.simulate import table
    from cl_vs_mim.core.files import write_text

    asked = load_claims(claims).simulation
    seeds = range(1, asked.most_seeds + 1)
    found = table(seeds, asked.effects, asked.replicates, asked.seed, level=asked.level)
    write_text(output, found.to_csv(index=False))


def audit_rates_page(
    *, rates: Path, output: Path, claims: Path = _CLAIMS, paper: Path = _PAPER, reference: Path = _REFERENCE
) -> None:
    """Write a page of the rules' error rates, and of how often they support the published values themselves.

    Args:
        rates: the table of audit-rates.
        output: the page, Markdown.
        claims: the claims; their ``simulation`` says with how many seeds and how often.
        paper: the study at the paper's scale.
        reference: the table of published values.

    Raises:
        UserError: the claims or the study are not valid, or a table is missing.

    Example:
        cl-vs-mim audit-rates-page --rates results/demo/audit_rates.csv --output docs/audit_rates.md
    """
    from cl_vs_mim.audit.claims import load_claims
    from cl_vs_mim.audit.rates import as_markdown
    from cl_vs_mim.audit.replication import support
    from cl_vs_mim.config import load_study
    from cl_vs_mim.core.files import write_text
    from cl_vs_mim.core.tables import read_table

    file = load_claims(claims)
    asked = file.simulation
    published = support(file, load_study(paper), reference, asked.published_seeds, asked.published_draws)
    write_text(output, as_markdown(read_table(rates), published, asked.level))


def pitfalls(*, config: Path, tables: Path, output: Path) -> None:
    """Write the page of common misreadings of the paper, each with the number of our tables that shows it.

    Args:
        config: the study's YAML.
        tables: folder of the study's tables, `results/<study>/tables`.
        output: the page, Markdown.

    Raises:
        UserError: a table is missing.

    Example:
        cl-vs-mim pitfalls --config config/demo.yaml --tables results/demo/tables --output docs/pitfalls.md
    """
    from cl_vs_mim.audit.pitfalls import page
    from cl_vs_mim.config import load_study
    from cl_vs_mim.core.files import write_text

    write_text(output, page(load_study(config), tables))


def findings(*, claims: Path, output: Path) -> None:
    """Write the page of what a study finds, claim by claim, in words that its audit bears.

    Args:
        claims: claims.json of the study.
        output: the page, Markdown.

    Raises:
        UserError: the audit is missing or of another version, or no longer bears a sentence of the page.

    Example:
        cl-vs-mim findings --claims results/demo/claims.json --output docs/findings.md
    """
    from cl_vs_mim.audit.findings import page
    from cl_vs_mim.audit.report import read_report
    from cl_vs_mim.core.files import write_text

    write_text(output, page(read_report(claims)))


def _pitfalls_decide(study: Study, run: str) -> dict[str, Any]:
    models = [study.models[name] for name in study.figures.pair]
    sizes = [study.architectures[model.architecture] for model in models]
    return {
        "study": study.study,
        "title": study.title,
        "pair": list(study.figures.pair),
        "labels": [model.label for model in models],
        "grids": [[size.image_size, size.patch_size] for size in sizes],
        "bootstrap": study.figures.bootstrap.model_dump(mode="json"),
        "perplexity": study.analysis.embedding.perplexity,
    }


CLAIMS = Command("claims", claims, _claims_decide, lambda study, run: ("cl_vs_mim.audit.judge",))
COMMANDS = (
    CLAIMS,
    Command("preregister", preregister, lambda study, run: {}, lambda study, run: ()),
    Command(
        "audit-rates",
        audit_rates,
        lambda study, run: {},
        lambda study, run: tuple(f"cl_vs_mim.audit.{name}" for name in ("claims", "simulate")),
    ),
    Command(
        "audit-rates-page",
        audit_rates_page,
        lambda study, run: {},
        lambda study, run: tuple(f"cl_vs_mim.audit.{name}" for name in ("claims", "rates", "replication")),
    ),
    Command("report", report, lambda study, run: {}, lambda study, run: ("cl_vs_mim.audit.report",)),
    Command("findings", findings, lambda study, run: {}, lambda study, run: ("cl_vs_mim.audit.findings",)),
    Command("pitfalls", pitfalls, _pitfalls_decide, lambda study, run: ("cl_vs_mim.audit.pitfalls",)),
)
