"""Data sets exist whole or not at all: workers, kills, full disks, damage."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from cl_vs_mim.config import ObjectImages
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.data import writer
from cl_vs_mim.data.kit import Kit
from cl_vs_mim.data.objects import ObjectRecipe
from cl_vs_mim.data.writer import Rendered, build, data_hash, verify

KIT = Path(__file__).parents[1] / "data" / "kit"
SETTINGS = ObjectImages(image_size=32, train_per_identity=14, val_per_identity=2, heldout_per_object=2)


def recipe(seed: int = 0, per_identity: int = 14) -> ObjectRecipe:
    """About 30 of the objects: enough shards to be interrupted between two."""
    kit = Kit.open(KIT)
    kept = {file.path for file in kit.select("object")[::8]}
    kit = kit.subset(lambda file: file.kind != "object" or file.path in kept)
    return ObjectRecipe(kit, SETTINGS.model_copy(update={"train_per_identity": per_identity}), seed)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("undisturbed") / "objects"
    build(recipe(), target, 1, quiet=True)
    return target


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*")]


def same_files(first: Path, second: Path) -> None:
    names = [sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()) for root in (first, second)]
    assert names[0] == names[1]
    for name in names[0]:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_the_content_does_not_depend_on_the_number_of_workers(undisturbed: Path, tmp_path: Path) -> None:
    build(recipe(), tmp_path / "objects", 2, quiet=True)
    same_files(undisturbed, tmp_path / "objects")
    assert hidden(tmp_path) == []


def test_the_seed_decides_the_content(undisturbed: Path, tmp_path: Path) -> None:
    build(recipe(seed=1, per_identity=1), tmp_path / "one", 1, quiet=True)
    build(recipe(seed=0, per_identity=1), tmp_path / "nil", 1, quiet=True)
    one, nil = (
        {path.relative_to(tmp_path / seed): path.read_bytes() for path in (tmp_path / seed).rglob("*.jpg")}
        for seed in ("one", "nil")
    )
    assert one.keys() == nil.keys() and len(one) > 20
    assert [name for name in one if one[name] == nil[name]] == [], "every picture is another"


def test_the_manifest_vouches_for_every_file(undisturbed: Path) -> None:
    manifest = json.loads((undisturbed / "manifest.json").read_text())
    pictures = list(undisturbed.rglob("*.jpg"))
    assert manifest["images"] == len(pictures) == sum(manifest["parameters"]["counts"].values())
    assert verify(undisturbed) == manifest["files"] == len(pictures) + 1  # and images.csv
    assert manifest["parameters"]["kit_manifest_sha256"] == Kit.open(KIT).manifest_sha256
    listed = (undisturbed / "files.csv").read_bytes()
    assert data_hash(undisturbed) == hashlib.sha256(listed).hexdigest()
    digests = dict(line.split(",") for line in listed.decode().splitlines()[1:])
    assert {undisturbed / name for name in digests} == {*pictures, undisturbed / "images.csv"}
    for name, digest in digests.items():
        assert hashlib.sha256((undisturbed / name).read_bytes()).hexdigest() == digest, name


def _start(target: Path) -> multiprocessing.Process:
    process = multiprocessing.get_context("fork").Process(target=build, args=(recipe(), target, 2, False))
    process.start()
    return process


def _kill_after_a_shard(target: Path) -> Path:
    """Start a build, kill it with SIGKILL once a shard is whole; returns the partial folder."""
    partial = target.with_name(f".{target.name}.partial")
    process = _start(target)
    end = time.monotonic() + 60
    while not list((partial / ".journal").glob("[0-9]*.json")):
        assert process.is_alive() and time.monotonic() < end
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not target.exists()
    return partial


def test_a_killed_build_goes_on_and_ends_the_same(undisturbed: Path, tmp_path: Path) -> None:
    target = tmp_path / "objects"
    partial = _kill_after_a_shard(target)
    journal = sorted((partial / ".journal").glob("[0-9]*.json"))[0]
    kept = next(iter(json.loads(journal.read_text())["files"]))
    before = (partial / kept).stat().st_mtime_ns
    made = []
    resumed = recipe()
    render = resumed.render
    resumed.render = lambda index: made.append(index) or render(index)
    build(resumed, target, 1, quiet=True)
    assert 0 < len(made) < len(resumed)  # it went on, it did not start again
    assert (target / kept).stat().st_mtime_ns == before
    same_files(undisturbed, target)
    assert hidden(tmp_path) == []


def test_a_truncated_picture_is_made_again(undisturbed: Path, tmp_path: Path) -> None:
    target = tmp_path / "objects"
    partial = _kill_after_a_shard(target)
    journal = sorted((partial / ".journal").glob("[0-9]*.json"))[0]
    damaged = partial / next(iter(json.loads(journal.read_text())["files"]))
    damaged.write_bytes(damaged.read_bytes()[:100])
    build(recipe(), target, 2, quiet=True)
    same_files(undisturbed, target)


def test_other_parameters_start_again(tmp_path: Path) -> None:
    target = tmp_path / "objects"
    _kill_after_a_shard(target)
    build(recipe(seed=1, per_identity=1), target, 1, quiet=True)
    build(recipe(seed=1, per_identity=1), tmp_path / "fresh", 1, quiet=True)
    same_files(tmp_path / "fresh", target)


class Failing:
    """A tiny recipe whose pictures are plain bytes."""

    name = "failing"

    def __len__(self) -> int:
        return 3 * writer.SHARD

    def parameters(self) -> dict[str, Any]:
        return {}

    def render(self, index: int) -> Rendered:
        return Rendered({f"train/a/{index}.jpg": bytes([index % 256]) * 10}, {"index": index})

    def finish(self, folder: Path, rows: list[dict[str, Any]]) -> None:
        assert [row["index"] for row in rows] == list(range(len(self)))


@pytest.mark.parametrize(("code", "words"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only")])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_write_error_is_clear_and_the_next_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str, workers: int
) -> None:
    def refuse(path: Path, content: bytes) -> None:
        if path.name == f"{writer.SHARD + 5}.jpg":
            raise OSError(code, os.strerror(code))
        real(path, content)

    real = writer._write
    target = tmp_path / "set"
    monkeypatch.setattr(writer, "_write", refuse)
    with pytest.raises(UserError, match=words):
        build(Failing(), target, workers, quiet=True)
    assert not target.exists()
    monkeypatch.undo()
    build(Failing(), target, workers, quiet=True)
    assert verify(target) == len(Failing())
    assert hidden(tmp_path) == []


def test_a_failure_before_the_first_shard_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(writer, "_write", refuse)
    with pytest.raises(UserError, match="disk is full"):
        build(Failing(), tmp_path / "set", 1, quiet=True)
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_place_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *args: object, **kwargs: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match=r"set: the file system is read-only"):
        build(Failing(), tmp_path / "set", 1, quiet=True)


def test_only_one_process_writes_a_folder(tmp_path: Path) -> None:
    partial = tmp_path / ".set.partial"
    partial.mkdir()
    with (
        writer._only_process(partial),
        pytest.raises(UserError, match="another process"),
        writer._only_process(partial, patience=0.2),
    ):
        pass


def test_a_finished_data_set_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "set"
    first = build(Failing(), target, 1, quiet=True)
    before = (target / "manifest.json").stat().st_mtime_ns
    assert build(Failing(), target, 2, quiet=True) == first
    assert (target / "manifest.json").stat().st_mtime_ns == before


def test_a_folder_without_a_manifest_is_built_again(tmp_path: Path) -> None:
    target = tmp_path / "set"
    first = build(Failing(), target, 1, quiet=True)
    (target / "manifest.json").unlink()  # as Snakemake does with the output of an unfinished rule
    with pytest.raises(UserError, match="no finished data set"):
        data_hash(target)
    assert build(Failing(), target, 1, quiet=True) == first


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(UserError, match="no data set of ours"):
        build(Failing(), tmp_path / "thesis", 1, quiet=True)
    assert (tmp_path / "thesis" / "chapter.txt").exists()


def test_damage_is_named(undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(undisturbed, folder)
    victim = sorted(folder.rglob("*.jpg"))[5]
    content = bytearray(victim.read_bytes())
    content[50] ^= 1
    victim.write_bytes(bytes(content))
    with pytest.raises(UserError, match=victim.name):
        verify(folder)
    victim.unlink()
    with pytest.raises(UserError, match=f"{victim.name} is missing"):
        verify(folder)
    (folder / "files.csv").write_text("path,sha256\n")
    with pytest.raises(UserError, match=r"files\.csv"):
        data_hash(folder)
