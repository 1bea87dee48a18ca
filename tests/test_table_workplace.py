"""Where a table's runs take place: the code of the working tree, and nothing of it is touched."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from conftest import REPOSITORY
from dvc.repo import Repo

from earwitness.tables.reading import read_table
from earwitness.tables.resolving import TableRun, own_values, runs_of
from earwitness.tables.workplace import FOLDER, Workplace, git, revision_of
from pipeline.config.params import load_params
from pipeline.errors import EarwitnessError

IDENTITY = ("-c", "user.name=test", "-c", "user.email=test@example.invalid")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Git and DVC over a few files that stand for the code."""
    root = tmp_path / "a b" / "project"
    for name in ("pipeline/a.py", "pipeline/b.py", "stages/c.py", "dvc.yaml", "params.yaml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("1\n", encoding="utf-8")
    (root / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    (root / ".gitignore").write_text("*.pyc\n/data/**\n!/data/**/\n", encoding="utf-8")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    Repo.init(str(root)).close()
    commit(root)
    return root


def commit(root: Path) -> None:
    git(root, "add", "-A")
    git(root, *IDENTITY, "commit", "-qm", "now")


def a_run(dataset: str = "soundscapes") -> TableRun:
    named = read_table(REPOSITORY / "recipes", "rlssr-3")
    (run,) = runs_of(named, named.table.rows, dataset, [1], REPOSITORY / "recipes")
    return run


def test_a_run_is_computed_on_the_users_own_cluster(repository: Path) -> None:
    run = a_run()
    made_of = own_values(run, next(iter(run.rows.values())))
    assert not {"engine", "ray", "seeds"} & {*made_of}  # no result depends on it
    cluster = "engine: ray\nray: {address: 'head:6379', cpus: 2}\n"
    (repository / "params.yaml").write_text(cluster, encoding="utf-8")
    place = Workplace(repository, "run")
    place.prepare(run, revision_of(repository))
    params = load_params(place.tree / "params.yaml")
    assert (params.engine, params.ray.address, params.ray.cpus) == ("ray", "head:6379", 2)
    assert params.captioners == run.params.captioners
    (repository / "params.yaml").write_text("seeds: [4]\n", encoding="utf-8")
    place.prepare(run, revision_of(repository))
    params = load_params(place.tree / "params.yaml")
    assert (params.engine, params.seeds) == ("local", run.params.seeds)


def test_edits_are_part_of_a_run_and_stay_as_they_are(repository: Path) -> None:
    clean = revision_of(repository)
    assert clean.head == clean.snapshot == git(repository, "rev-parse", "HEAD").strip()
    (repository / "pipeline" / "a.py").write_text("2\n", encoding="utf-8")
    (repository / "pipeline" / "new.py").write_text("3\n", encoding="utf-8")
    (repository / "pipeline" / "a.pyc").write_text("4\n", encoding="utf-8")
    (repository / "pipeline" / "b.py").unlink()
    (repository / "params.yaml").write_text("mine: 1\n", encoding="utf-8")
    git(repository, "add", "pipeline/new.py")
    before = git(repository, "status", "--porcelain", "--ignored")
    edited = revision_of(repository)
    assert edited.head == clean.head and str(edited) == f"{clean.head[:10]}+"
    work = Workplace(repository, "own")
    work.prepare(a_run(), edited)
    assert git(repository, "status", "--porcelain", "--ignored").replace("!! data/\n", "") == before
    assert (work.tree / "pipeline" / "a.py").read_text(encoding="utf-8") == "2\n"
    assert (work.tree / "pipeline" / "new.py").read_text(encoding="utf-8") == "3\n"
    assert not (work.tree / "pipeline" / "b.py").exists()
    assert not (work.tree / "pipeline" / "a.pyc").exists()
    assert git(work.tree, "rev-parse", "HEAD").strip() == clean.head
    assert (repository / "params.yaml").read_text(encoding="utf-8") == "mine: 1\n"
    assert load_params(work.tree / "params.yaml") == a_run().params
    (repository / "pipeline" / "new.py").unlink()  # and back
    work.prepare(a_run(), revision_of(repository))
    assert not (work.tree / "pipeline" / "new.py").exists()


def test_what_ran_there_stays_where_the_code_changes(repository: Path) -> None:
    work = Workplace(repository, "own")
    work.prepare(a_run(), revision_of(repository))
    (work.tree / "dvc.lock").write_text("schema: '2.0'\n", encoding="utf-8")
    (repository / "stages" / "c.py").write_text("2\n", encoding="utf-8")
    commit(repository)
    work.prepare(a_run(), revision_of(repository))
    assert (work.tree / "stages" / "c.py").read_text(encoding="utf-8") == "2\n"
    assert (work.tree / "dvc.lock").read_text(encoding="utf-8") == "schema: '2.0'\n"


@pytest.mark.parametrize("left", ["nothing", "half"])
def test_a_workplace_that_was_not_finished_is_made_anew(repository: Path, left: str) -> None:
    work = Workplace(repository, "own")
    work.prepare(a_run(), revision_of(repository))
    if left == "nothing":  # its folder was removed by hand; git still knows of it
        for path in sorted(work.folder.rglob("*"), reverse=True):
            path.unlink() if path.is_symlink() or path.is_file() else path.rmdir()
    else:
        (work.folder / "state.json").unlink()
        (work.tree / "stages" / "c.py").unlink()
    work.prepare(a_run(), revision_of(repository))
    assert (work.tree / "stages" / "c.py").read_text(encoding="utf-8") == "1\n"


def test_cache_raw_audio_and_named_files_are_the_repositorys(repository: Path) -> None:
    (repository / ".dvc" / "config.local").write_text(
        "[core]\n    remote = away\n[cache]\n    dir = ../../cache\n['remote \"away\"']\n"
        "    url = /away\n",
        encoding="utf-8",
    )
    weights = repository.parent / "shared" / "data" / "weights" / "yamnet.tflite"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    work = Workplace(repository, "own")
    work.prepare(a_run(), revision_of(repository))
    named = read_table(REPOSITORY / "recipes", "edtc-1")
    (run,) = runs_of(named, named.table.rows, "realsounds", [1], REPOSITORY / "recipes")
    work.prepare(run, revision_of(repository))
    with Repo(str(work.tree)) as there, Repo(str(repository)) as here:
        assert there.cache.local.path == here.cache.local.path
        assert there.stage_cache.cache_dir == here.stage_cache.cache_dir  # of runs
        assert Path(here.cache.local.path).is_relative_to(repository.parent / "cache")
        assert there.config["remote"]["away"]["url"] == "/away"
    (work.tree / "data" / "raw" / "x.wav").write_bytes(b"sound")
    assert (repository / "data" / "raw" / "x.wav").read_bytes() == b"sound"
    name = run.params.encoders["yamnet"].weights.name
    assert name == "../shared/data/weights/yamnet.tflite"
    assert (work.tree / name).read_bytes() == b"weights"


def test_a_path_too_far_away_is_one_line(repository: Path) -> None:
    away = repository.parents[1] / "w.tflite"
    away.write_bytes(b"weights")
    run = a_run()
    values = run.params.model_dump(mode="json")
    values["encoders"]["panns"]["weights"] = "../../w.tflite"
    values["tagging"] = {}
    values["sound_towers"]["pann"]["weights"] = "scratch"
    run = run._replace(params=type(run.params).model_validate(values))
    Workplace(repository, "x").prepare(run, revision_of(repository))  # two levels have room
    away.rename(repository.parents[2] / "w.tflite")
    values["encoders"]["panns"]["weights"] = "../../../w.tflite"
    run = run._replace(params=type(run.params).model_validate(values))
    with pytest.raises(EarwitnessError, match="too far from the repository"):
        Workplace(repository, "y").prepare(run, revision_of(repository))


def test_a_folder_without_a_commit_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(EarwitnessError, match="a table needs a git repository with a commit"):
        revision_of(tmp_path)
    assert FOLDER.parts[0] == "data"  # which git ignores
