"""What a kill, a full disk, a vanished folder or a diverging loss leaves; the same command goes on from there."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from cl_vs_mim import cli
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.files import atomic_path, write_text
from cl_vs_mim.pretrain.trainer import Trainer
from cl_vs_mim.pretrain.watch import LossWatch
from test_pretrain_loop import assert_same_weights, tiny, train, write_images
from workplace import Workplace


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data") / "objects")


@pytest.fixture
def workplace(workplace: Workplace, data: Path) -> Workplace:
    tiny(workplace, data)
    workplace.training("simmim").update(epochs=5)  # 30 steps
    return workplace


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*")]


# ------------------------------------------------------------------------------------------------
# Temporary files
# ------------------------------------------------------------------------------------------------


def test_what_a_killed_process_left_of_a_file_goes_with_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "a[b]*.json"
    left, other = tmp_path / ".a[b]*.0123abcd.part.json", tmp_path / ".another.0123abcd.part.json"
    alive = tmp_path / ".a[b]*.89abcdef.part.json"
    for file in (left, other, alive):
        file.write_text("half")
    with alive.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        write_text(path, "whole")
        assert sorted(hidden(tmp_path)) == sorted([other.name, alive.name]), "another file's, and one that is written"
    write_text(path, "whole")
    assert hidden(tmp_path) == [other.name] and path.read_text() == "whole"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.ENOENT])
def test_an_error_of_the_disk_keeps_the_old_file_and_is_one_line(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "file.json"
    path.write_text("old")
    with pytest.raises(UserError, match=r"cannot write .*file\.json: "), atomic_path(path) as temporary:
        temporary.write_text("ne")
        raise OSError(number, os.strerror(number), str(temporary))
    assert path.read_text() == "old" and hidden(tmp_path) == []

    def broken() -> None:
        raise OSError(number, os.strerror(number), "some/file")

    monkeypatch.setattr(cli, "app", lambda: lambda arguments: broken())
    with pytest.raises(SystemExit) as stop:
        cli.main([])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: cannot use some/file: ") and said.count("\n") == 1


def test_a_file_of_something_else_that_is_missing_is_not_called_unwritable(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "file.json"):
        (tmp_path.parent / "elsewhere" / "input").read_text()


# ------------------------------------------------------------------------------------------------
# Checkpoints
# ------------------------------------------------------------------------------------------------


def test_a_full_disk_while_a_checkpoint_is_written_keeps_the_state_before(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(workplace, "simmim", runs="whole", output="whole")
    really = Path.open

    def full(path: Path, mode: str = "r", *rest, **options):
        full_now = mode == "wb" and path.name.startswith(".checkpoint_000000015")
        return really(Path("/dev/full") if full_now else path, mode, *rest, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(UserError, match=r"cannot write .*checkpoint_000000015\.pt: the disk is full; free some space"):
        train(workplace, "simmim")
    folder = workplace.run_folder()
    assert sorted(path.name for path in folder.glob("checkpoint_*.pt")) == [
        "checkpoint_000000005.pt",
        "checkpoint_000000010.pt",
    ]
    assert hidden(folder) == []
    monkeypatch.setattr(Path, "open", really)
    assert_same_weights(whole, train(workplace, "simmim"))


@pytest.mark.parametrize("left", ["", "step,epo"])
def test_a_log_without_a_line_beside_a_checkpoint_is_begun_anew(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    workplace.training("simmim").update(log_steps=1000)
    whole = train(workplace, "simmim", runs="whole", output="whole")
    step = Trainer.run_step

    def killed(self: Trainer, source: object):
        if self.step == 5:
            raise KeyboardInterrupt
        return step(self, source)

    monkeypatch.setattr(Trainer, "run_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(workplace, "simmim")
    monkeypatch.setattr(Trainer, "run_step", step)
    (workplace.run_folder() / "metrics.csv").write_text(left)
    assert_same_weights(whole, train(workplace, "simmim"))
    assert pd.read_csv(workplace.run_folder() / "metrics.csv")["step"].tolist() == [6, 12, 18, 24, 30]


@pytest.mark.parametrize("at", [7, 9])
def test_a_run_folder_that_is_deleted_meanwhile_is_named(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    step = Trainer.run_step

    def removing(self: Trainer, source: object):
        if self.step == at:
            shutil.rmtree(workplace.folder / "runs")
        return step(self, source)

    monkeypatch.setattr(Trainer, "run_step", removing)
    with pytest.raises(UserError, match=r"the run folder .* was removed during the training; run the same command"):
        train(workplace, "simmim")
    monkeypatch.setattr(Trainer, "run_step", step)
    train(workplace, "simmim")


# ------------------------------------------------------------------------------------------------
# Good checkpoints
# ------------------------------------------------------------------------------------------------


def watched(losses: list[float]) -> LossWatch:
    watch = LossWatch()
    for loss in losses:
        watch.add(loss)
    return watch


def test_a_loss_is_near_its_running_mean_or_not() -> None:
    falling = [2 * 0.95**step for step in range(50)]
    assert watched(falling).good
    assert watched([1 + 0.3 * math.sin(step) for step in range(50)]).good, "noise"
    assert not watched([*falling, 4.0, 1e3, 1e9]).good
    assert not watched([*falling, math.nan]).good and not watched([*falling, math.inf]).good
    watch = watched([*falling, 1e9])
    watch.saved()
    assert not watch.good, "nothing is known yet"
    watch.add(1e12)
    assert not watch.good, "a loss that was astray before does not make the next one near"
    again = LossWatch()
    again.restore(watched(falling).state())
    again.add(0.2)
    assert again.good and again.state()["count"] == 51


def test_a_rollback_goes_behind_the_checkpoints_of_a_loss_that_grew(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Checkpoints at 5, 10, 15 …; the loss grows from step 14 on and is not finite at step 27."""
    workplace.training("simmim").update(rollback_factor=0.5)
    step, tried = Trainer.run_step, []

    def growing(self: Trainer, source: object):
        tried.append(self.step)
        if self.lr_scale == 1 and self.step == 26:
            raise FloatingPointError("loss inf")
        line, features = step(self, source)
        return (
            {**line, "loss": line["loss"] * 3 ** (self.step - 12)} if self.step > 13 and self.lr_scale == 1 else line
        ), features

    monkeypatch.setattr(Trainer, "run_step", growing)
    train(workplace, "simmim")
    assert "back to step 5 with the learning rate times 0.5" in capsys.readouterr().err, "10 is followed by 14"
    assert tried == [*range(27), *range(5, 30)]
    workplace.training("simmim").pop("rollback_factor")
    with pytest.raises(UserError, match=r"last good checkpoint: .*checkpoint_000000005\.pt"):
        train(workplace, "simmim", runs="other")


def test_an_exit_status_stands_in_the_documentation(root: Path) -> None:
    table = (root / "docs" / "training.md").read_text().split("| exit status |")[1].split("\n\n")[0]
    status = {row.split("|")[1].strip(): row.split("|")[3].strip() for row in table.splitlines() if row.count("|") == 4}
    assert status["a loss that is not finite"] == "2" and status["a second process on the same folder"] == "2"
    assert status["a full disk, or the run folder deleted"] == "2"
