"""Every command with a fault at its n-th file operation, in processes of their own: ``python tests/faults.py FOLDER``.

File operations are counted by an audit hook, which sees what Python itself, and all that is written through it, opens
for writing, creates, renames or removes. What a library writes past it meets the limit of the fault ``short``.
One process imports everything, makes what the commands read, and is forked for each run; it writes a JSON line a case.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

KINDS = ("kill", "full", "short", "read-only", "vanished")  # short: no file may grow beyond 100 bytes times the place
EVENTS = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink")
RUN = "simmim_seed0"
# What holds a time or a rate, which no two runs have in common.
TIMED = (
    "metrics.csv",
    "tables/training",
    "precision.json",
    "tensorboard",
    "checkpoint_",
    "config.json",
    "detectron2.log",
)


@dataclass
class Case:
    """One command with one fault, and what came of it."""

    command: str
    kind: str
    at: int
    status: int = 0  # of the command with the fault
    said: str = ""
    again: int = 0  # status of the same command afterwards
    said_again: str = ""
    same: bool = False  # its files are those of an undisturbed run
    hidden: tuple[str, ...] = ()


# ------------------------------------------------------------------------------------------------
# Faults
# ------------------------------------------------------------------------------------------------


def inject(folder: Path, kind: str, at: int) -> list[int]:
    """From the ``at``-th file operation in ``folder`` on there is a fault; the list's first entry counts them."""
    count = [0]
    place = str(folder)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            changes = isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        else:
            path, changes = (arguments[0] if arguments else None), event in EVENTS
        if not changes or not isinstance(path, str | bytes | os.PathLike) or place not in os.fsdecode(path):
            return
        count[0] += 1
        if count[0] < at or kind in ("none", "short"):
            return
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif kind == "vanished" and count[0] == at:
            shutil.rmtree(folder, ignore_errors=True)
        elif kind == "read-only":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        elif kind == "full" and event in ("open", "os.mkdir"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    sys.addaudithook(hook)
    return count


def forked(work: Callable[[], None], said: Path) -> int:
    """Run something in a fork, its output going to a file; its exit status, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with said.open("w") as stream:
                os.dup2(stream.fileno(), 1)
                os.dup2(stream.fileno(), 2)
                sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
                try:
                    work()
                    status = 0
                except SystemExit as end:
                    status = end.code if isinstance(end.code, int) else 1
                except BaseException:
                    import traceback

                    traceback.print_exc()
                sys.stdout.flush()
                sys.stderr.flush()
        finally:
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(ended)


# ------------------------------------------------------------------------------------------------
# Commands on tiny data
# ------------------------------------------------------------------------------------------------


def study(folder: Path) -> dict[str, Any]:
    """The smoke study with two steps of training and few images."""
    from workplace import smoke_study

    tiny = smoke_study()
    tiny["data"]["objects"] |= {"train_per_identity": 2, "val_per_identity": 1, "heldout_per_object": 1}
    tiny["data"]["scenes"] |= {"train": 4, "val": 2}
    tiny["data"]["cue_conflict"] |= {"images": 4}
    tiny["data"]["kit"] = str(ROOT / "data" / "kit")
    for architecture in tiny["architectures"].values():
        architecture.update(width=16, depth=3, heads=2)
    for model in tiny["models"].values():
        model["training"] |= {"epochs": 1, "warmup_epochs": 0, "batch_size": 32, "checkpoint_steps": 1, "log_steps": 1}
        model["training"]["snapshots"] = {"first": 32}
    tiny["analysis"] |= {"images": 12, "batch_size": 6}
    tiny["analysis"]["phenomena"] = {"images": 12, "memory": 24, "neighbours": 5}
    tiny["analysis"]["probe"] |= {"epochs": 1}
    tiny["analysis"]["embedding"] |= {"perplexity": 5, "alternatives": [3], "classes": 2, "images_per_class": 2}
    tiny["analysis"]["embedding"]["iterations"] = 250
    return tiny


def commands(base: Path, out: Path) -> dict[str, list[str]]:
    """Verb, and what it is done to where it is there twice -> its words, in an order in which each can be run.

    They read from ``base`` and write into ``out``.
    """
    config, data, encoder = (
        f"--config={base}/smoke.yaml",
        f"--data={base}/objects",
        f"--encoder={base}/encoder.safetensors",
    )
    run, tables, reference = (
        f"--run={RUN}",
        f"--tables={base}/tables",
        f"--reference={ROOT}/results/reference/reference_values.csv",
    )
    to, on = f"--tables={out}/tables", ["--device=cpu", "--threads=1"]
    about = [config, run, data, encoder, to, *on]
    given = {
        "show-study": [config, f"--output={out}/study.yaml"],
        "compose": [config, "--dataset=objects", f"--output={out}/objects", "--workers=1"],
        "compose scenes": [config, "--dataset=scenes", f"--output={out}/scenes", "--workers=1"],
        "compose cue_conflict": [config, "--dataset=cue_conflict", f"--output={out}/cue_conflict", "--workers=1"],
        "adopt": [f"--config={base}/given/paper.yaml", "--dataset=objects", f"--output={out}/adopted"],
        "contact-sheet": [config, f"--output={out}/sheet.jpg"],
        "check": [config, "--dataset=objects", data, f"--output={out}/check.json"],
        "pretrain": [config, run, data, f"--runs={out}/runs", f"--output={out}/encoder.safetensors",
                     f"--log-table={out}/tables/training/{RUN}.csv", *on],
        "export-weights": [config, run, encoder, f"--output={out}/weights.safetensors"],
        "import-encoder": [f"--config={base}/given/smoke.yaml", run, f"--checkpoint={base}/weights.safetensors",
                           f"--output={out}/imported.safetensors"],
        "extract": about,
        "embedding": about,
        "reconstruct": about,
        "linear-probe": [*about, f"--probes={out}/probes.safetensors"],
        "augmented-probe": [*about, f"--runs={out}/runs"],
        "finetune": [*about, f"--runs={out}/runs", f"--tuned={out}/tuned.safetensors",
                     f"--log-table={out}/tables/training/finetuned_{RUN}.csv"],
        "robustness": [*about, f"--cues={base}/cue_conflict", f"--probes={base}/probes.safetensors"],
        "segmentation": [config, run, encoder, f"--data={base}/scenes/ade20k", to, f"--runs={out}/runs",
                         f"--picture={out}/segmentation.png", *on],
        "detection": [config, run, encoder, f"--data={base}/scenes/coco", to, f"--runs={out}/runs",
                      f"--picture={out}/detection.png", *on],
        "snapshots": [config, run, data, encoder, f"--runs={base}/runs", to, "--threads=1",
                      f"--log-table={base}/tables/training/{RUN}.csv"],
        "card": [config, run, f"--weights={base}/weights.safetensors", tables, f"--output={out}/card.md"],
        "figures": ["fig3", config, f"--tables={base}/drawn", reference, f"--output={out}/fig3.pdf"],
        "claims": [config, f"--claims={ROOT}/config/claims.yaml", f"--tables={base}/drawn", reference,
                   f"--output={out}/claims.json"],
        "table": ["transfer", config, f"--tables={base}/scored", reference, f"--output={out}/table.csv"],
        "preregister": ["--reason=first", f"--claims={base}/given/claims.yaml", f"--output={out}/registered.yaml"],
        "audit-rates": [f"--claims={base}/given/claims.yaml", f"--output={out}/rates.json", f"--page={out}/rates.md"],
        "report": [f"--claims={base}/claims.json", f"--figures={base}/fig3.png", f"--output={out}/report.html"],
    }  # fmt: skip
    return {name: [*name.split()[:1], *words] for name, words in given.items()}


def prepare(base: Path) -> None:
    """What the commands read, made by the commands themselves where that is quick."""
    import yaml

    import figure_tables
    from cl_vs_mim.config import load_study
    from test_transfer_figures import write_scores

    base.mkdir()
    (base / "given").mkdir()
    tiny = study(base)
    (base / "smoke.yaml").write_text(yaml.safe_dump(tiny))
    shutil.copytree(ROOT / "config" / "recipes", base / "given" / "recipes")
    paper = yaml.safe_load((ROOT / "config" / "paper.yaml").read_text(encoding="utf-8"))
    places = {"objects": "objects", "coco": "scenes/coco", "ade20k": "scenes/ade20k", "stylized": "objects/val"}
    paper["data"] = {name: str(base / place) for name, place in places.items()}
    (base / "given" / "paper.yaml").write_text(yaml.safe_dump(paper))
    claims = (ROOT / "config" / "claims.yaml").read_text(encoding="utf-8")
    (base / "given" / "claims.yaml").write_text(claims.replace("replicates: 2000", "replicates: 10"), encoding="utf-8")
    (base / "scored").mkdir()
    write_scores(base / "scored", load_study(base / "smoke.yaml"))
    tiny["models"]["simmim"]["checkpoint"] = {"file": str(base / "weights.safetensors")}
    (base / "given" / "smoke.yaml").write_text(yaml.safe_dump(tiny))
    for model in figure_tables.ENCODERS:
        for kind, table in (("attention", figure_tables.attention_table), ("attention_maps", figure_tables.maps_table)):
            path = base / "drawn" / kind / f"{model}_seed0.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            table(model).to_parquet(path)
    image = base / "drawn" / "attention_image" / "x.parquet"
    image.parent.mkdir(parents=True)
    for model in figure_tables.ENCODERS:
        figure_tables.image_table().to_parquet(image.with_name(f"{model}_seed0.parquet"))


def digests(folder: Path) -> dict[str, str]:
    """What has no time in it, by its path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and not any(word in str(path.relative_to(folder)) for word in TIMED)
        and not path.name.endswith(("lock", ".pdf"))
    }  # fmt: skip


def hidden(folder: Path) -> tuple[str, ...]:
    return tuple(str(path.relative_to(folder)) for path in folder.rglob(".*"))


# ------------------------------------------------------------------------------------------------
# Sweep
# ------------------------------------------------------------------------------------------------


def sweep(folder: Path, verbs: Iterable[str], places: Callable[[int, str], Iterable[int]]) -> Iterator[Case]:
    """Each command undisturbed, then with each kind of fault at each of its places: ``places(operations, kind)``."""
    from cl_vs_mim import cli

    base, said = folder / "base", folder / "said"
    prepare(base)
    for verb in commands(base, base):  # undisturbed, each on the results of those before
        out = folder / "out"
        words = commands(base, out)[verb]
        counted = folder / "count"

        def undisturbed(words: list[str] = words, out: Path = out, counted: Path = counted) -> None:
            count = inject(out, "none", 0)
            cli.main(words)
            counted.write_text(str(count[0]))

        status = forked(undisturbed, said)
        if status != 0:
            raise RuntimeError(f"{verb} fails undisturbed: {said.read_text()[-2000:]}")
        whole, operations = digests(out), int(counted.read_text())
        for kind in KINDS if verb in verbs else ():
            for at in places(operations, kind):
                yield faulty(folder, verb, words, kind, at, whole)
        shutil.rmtree(out, ignore_errors=True)
        if verb == list(verbs)[-1]:
            return
        words = commands(base, base)[verb]
        assert forked(lambda words=words: cli.main(words), said) == 0, said.read_text()  # type: ignore[misc]


def faulty(folder: Path, verb: str, words: list[str], kind: str, at: int, whole: dict[str, str]) -> Case:
    from cl_vs_mim import cli

    out, said = folder / "out", folder / "said"
    shutil.rmtree(out, ignore_errors=True)
    case = Case(verb, kind, at)

    def disturbed() -> None:
        inject(out, kind, at)
        if kind == "short":
            resource.setrlimit(resource.RLIMIT_FSIZE, (100 * at, resource.RLIM_INFINITY))
        cli.main(words)

    case.status = forked(disturbed, said)
    case.said = said.read_text()[-600:]
    case.again = forked(lambda: cli.main(words), said)
    case.said_again = said.read_text()[-600:]
    case.same = digests(out) == whole
    case.hidden = hidden(out)
    return case


def outcomes(cases: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """A row a command and kind of fault: in how many of the cases all was as it should be."""
    rows = pd.DataFrame(cases).assign(
        one_line=lambda found: [
            "Traceback" not in said and (status in (0, 2) or (kind == "kill" and status == -signal.SIGKILL))
            for said, status, kind in zip(found["said"], found["status"], found["kind"], strict=True)
        ],
        went_on=lambda found: found["again"] == 0,
        nothing_hidden=lambda found: [not names for names in found["hidden"]],
        cases=1,
    )
    counted = ["cases", "one_line", "went_on", "same", "nothing_hidden"]
    return rows.groupby(["command", "kind"], sort=False)[counted].sum().reset_index()


def main() -> None:
    folder = Path(sys.argv[1])
    every = "--every" in sys.argv
    verbs = [word for word in sys.argv[2:] if not word.startswith("-")] or list(commands(folder, folder))

    def places(operations: int, kind: str) -> Iterable[int]:
        if every:
            return range(1, operations + 1)
        some = sorted({1, (operations + 1) // 2, operations})
        return some if kind == "kill" else some[len(some) // 2 : len(some) // 2 + 1]

    import matplotlib

    matplotlib.use("Agg")
    for name in ("pretrain.run", "analysis.extract", "transfer.run", "figures.style", "audit.report", "data.objects"):
        __import__(f"cl_vs_mim.{name}")
    with contextlib.suppress(ImportError):
        import torch.utils.tensorboard  # noqa: F401
    shown = os.fdopen(os.dup(1), "w")
    for case in sweep(folder, verbs, places):
        print(json.dumps(asdict(case)), file=shown, flush=True)


if __name__ == "__main__":
    main()
