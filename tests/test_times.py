"""What each job took: whole, added up over runs that were stopped, and never in its way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.files import sha256
from pipeline.times import Stopwatch, read_times, time_of

# a job that works until it is killed, and records itself often
ENDLESS = """
import sys, time
from pathlib import Path
import pipeline.times
pipeline.times.SECONDS_APART = 0.05
with pipeline.times.Stopwatch(Path(sys.argv[1]), "train", ["edtc", "2"], "abc") as watch:
    watch.given(Path(sys.argv[2]))
    print("begun", flush=True)
    while True:
        time.sleep(1)
"""


def plan_file(tmp_path: Path) -> Path:
    path = tmp_path / "plan.json"
    path.write_text("{}")
    return path


def test_a_job_is_measured(tmp_path: Path) -> None:
    work = "import time; t = time.process_time()\nwhile time.process_time() - t < 0.3: pass"
    began = time.perf_counter()
    with Stopwatch(tmp_path / "times", "extract", ("clotho", "panns"), "1a2b+") as watch:
        watch.given(plan_file(tmp_path))
        subprocess.run([sys.executable, "-c", work], check=True)
    took = time.perf_counter() - began
    (record,) = read_times(tmp_path / "times")
    assert (record.stage, record.job, record.revision) == ("extract", ("clotho", "panns"), "1a2b+")
    assert record.plan == sha256(tmp_path / "plan.json")
    assert record.finished
    assert 0.3 <= record.seconds <= took + 0.1
    assert record.cpu_seconds >= 0.3  # a child's time counts
    assert record.peak_memory > 1 << 20  # bytes, no kilobytes
    assert record.cores == len(os.sched_getaffinity(0))
    assert time_of(tmp_path / "times", tmp_path / "plan.json") == record


def test_the_time_of_a_killed_run_is_added(tmp_path: Path) -> None:
    plan, times = plan_file(tmp_path), tmp_path / "times"
    command = [sys.executable, "-c", ENDLESS, str(times), str(plan)]
    job = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert job.stdout is not None and job.stdout.readline()
    time.sleep(0.6)
    job.send_signal(signal.SIGKILL)
    job.wait()
    job.stdout.close()
    (stopped,) = read_times(times)
    assert not stopped.finished and stopped.seconds >= 0.4
    assert time_of(times, plan) is None
    with Stopwatch(times, "train", ("edtc", "2"), "abc") as watch:
        watch.given(plan)
        time.sleep(0.2)
    (record,) = read_times(times)
    assert record.finished and record.started == stopped.started
    assert stopped.seconds + 0.2 <= record.seconds <= stopped.seconds + 0.5
    with Stopwatch(times, "train", ("edtc", "2"), "abc") as watch:  # run again, as it was forced
        watch.given(plan)
    (record,) = read_times(times)
    assert record.seconds < 0.2


def test_another_plan_has_a_record_of_its_own(tmp_path: Path) -> None:
    for text in ("{}", "[]"):
        (tmp_path / "plan.json").write_text(text)
        with Stopwatch(tmp_path / "times", "train", ("edtc", "1"), None) as watch:
            watch.given(tmp_path / "plan.json")
    assert len({record.plan for record in read_times(tmp_path / "times")}) == 2


def test_a_job_that_fails_is_not_finished(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="no"),
        Stopwatch(tmp_path / "times", "look", (), None),
    ):
        raise RuntimeError("no")
    (record,) = read_times(tmp_path / "times")
    assert not record.finished and record.plan == "none"


def test_a_place_that_takes_no_file_stops_no_job(tmp_path: Path) -> None:
    (tmp_path / "times").write_text("a file")
    with Stopwatch(tmp_path / "times", "look", (), None):
        done = True
    assert done and not read_times(tmp_path / "times")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"stage": "x"}', "{" * 3000])
def test_broken_records_are_left_out(tmp_path: Path, text: str) -> None:
    with Stopwatch(tmp_path / "times", "look", (), None):
        pass
    broken = tmp_path / "times" / "look" / "all" / "broken.json"
    broken.write_text(text)
    assert len(read_times(tmp_path / "times")) == 1
