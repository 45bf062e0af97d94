"""CASA in a process of its own: it is quiet, ends in time, and leaves nothing behind."""

import itertools
import signal
import time
from dataclasses import replace

import astropy.units as u
import numpy as np
import psutil
import pytest
from small_casa import (
    SMALL,
    needs_casa,
    point_sky,
    processes_in,
    run_python,
    start_python,
    wait_for,
)

from diffsky.simulation import _casa_worker
from diffsky.simulation._casa_process import CasaProcess, run_job
from diffsky.simulation.casa import (
    CasaError,
    CasaTimeoutError,
    observe_uv,
    simulate_observation,
)

# Jobs for a process that has imported CASA and has nothing else to do with it.
SCRIPT = """
import os, time
from pathlib import Path
import numpy as np
from _casa_tasks import Refused

def say(job):
    print("heard", job["word"], flush=True)
    return {"twice": 2 * np.load("inputs.npz")["x"]}, {"pid": os.getpid()}

def refuse(job):
    Path(job["tries"]).open("a").write("x")
    raise Refused("not a good job")

def fail(job):
    Path(job["tries"]).open("a").write("x")
    if len(Path(job["tries"]).read_text()) < job["good"]:
        if job["how"] == "die":
            os.kill(os.getpid(), 9)
        if job["how"] == "sleep":
            time.sleep(1000)
        raise ValueError("a broken job")
    return {}, {"pid": os.getpid()}
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("script") / "jobs_of_a_test.py"
    path.write_text(SCRIPT)
    return str(path)


@pytest.fixture
def process(tmp_path):
    with CasaProcess(scratch_dir=tmp_path) as process:
        yield process


@needs_casa
def test_jobs_share_a_process_and_have_their_own_logs(process, script, tmp_path):
    inputs = {"x": np.arange(3)}
    pids = []
    for word in ("one", "two"):
        job = {"script": script, "task": "say", "word": word}
        log = tmp_path / f"{word}.log"
        arrays, values, folder = process.run(job, inputs=inputs, timeout=300, log_file=log)
        pids.append(values["pid"])
        assert np.array_equal(arrays["twice"], [0, 2, 4])
        assert f"heard {word}" in log.read_text()
        assert not folder.exists()
    assert pids[0] == pids[1]
    assert "two" not in (tmp_path / "one.log").read_text()
    process.close()
    assert not processes_in(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.log", "two.log"]
    with pytest.raises(CasaError, match="was closed"):
        process.run(job, inputs=inputs, timeout=300, log_file=log)


@needs_casa
@pytest.mark.parametrize(("given", "expected"), [(None, "1"), ("3", "3")])
def test_one_core_unless_the_user_says_otherwise(process, script, monkeypatch, given, expected):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    job = {"script": script, "task": "say", "word": "one"}
    pid = process.run(job, inputs={"x": np.zeros(1)}, timeout=300)[1]["pid"]
    assert psutil.Process(pid).environ()["OMP_NUM_THREADS"] == expected


@needs_casa
def test_a_process_that_cannot_start_leaves_nothing(process, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no more processes")

    monkeypatch.setattr("diffsky.simulation._casa_process.subprocess.Popen", fail)
    with pytest.raises(OSError, match="no more processes"):
        process.run({"task": "say"}, timeout=300, work_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


@needs_casa
@pytest.mark.slow
def test_a_job_that_failed_is_tried_again_in_a_new_process(process, script, tmp_path):
    def run(how, good, retries):
        tries = tmp_path / f"tries{next(numbers)}"
        job = {"script": script, "task": "fail", "how": how, "good": good, "tries": str(tries)}
        options = {"timeout": 300, "retries": retries, "log_file": tmp_path / "log"}
        try:
            return process.run(job, **options)[1]["pid"]
        finally:
            assert len(tries.read_text()) == retries + 1

    numbers = itertools.count()
    first = run("", 1, 0)
    assert run("", 0, 0) == first
    with pytest.raises(CasaError, match="was ended by signal 9"):
        run("die", 9, 0)
    second = run("raise", 2, 1)
    assert second != first
    assert run("", 0, 0) == second


@needs_casa
def test_what_is_refused_is_not_tried_again(process, script, tmp_path):
    tries = tmp_path / "tries"
    job = {"script": script, "task": "refuse", "tries": str(tries)}
    with pytest.raises(CasaError, match="not a good job"):
        process.run(job, timeout=300, retries=5, log_file=tmp_path / "log")
    assert tries.read_text() == "x"


@needs_casa
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_it_does_not_outlive_its_parent(number, script, tmp_path):
    """Nor do its folders, even where the parent had no time to clean up."""
    tries = tmp_path / "tries"
    work = tmp_path / "work"
    work.mkdir()
    parent = start_python(f"""
from diffsky.simulation._casa_process import CasaProcess
job = dict(script={script!r}, task="fail", how="sleep", good=9, tries={str(tries)!r})
with CasaProcess(scratch_dir={str(work)!r}) as process:
    process.run(job, timeout=600, work_dir={str(work)!r}, log_file={str(tmp_path / "log")!r})
""")
    assert wait_for(tries.exists)
    assert processes_in(work)
    parent.send_signal(number)
    _, errors = parent.communicate(timeout=60)
    if number == signal.SIGINT:
        assert "KeyboardInterrupt" in errors
    assert wait_for(lambda: not processes_in(work), limit=20)
    assert wait_for(lambda: not list(work.iterdir()), limit=20)


@needs_casa
@pytest.mark.slow
def test_quiet_and_tidy(tmp_path, monkeypatch, capfd):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    log = tmp_path / "casa.log"
    log.write_text("earlier\n")
    work = tmp_path / "work"
    simulate_observation(point_sky(SMALL), SMALL, seed=1, log_file=log, work_dir=work)
    assert log.read_text().startswith("earlier\n")
    assert "Task tclean complete" in log.read_text()
    assert list(here.iterdir()) == []
    assert list(work.iterdir()) == []
    assert capfd.readouterr() == ("", "")


@needs_casa
def test_time_limit_leaves_no_process(tmp_path):
    log = tmp_path / "casa.log"
    begin = time.monotonic()
    with pytest.raises(CasaTimeoutError, match=r"within 1 s") as caught:
        observe_uv(SMALL, timeout=1000 * u.ms, log_file=log)
    assert time.monotonic() - begin < 30
    assert isinstance(caught.value, CasaError)
    work = tmp_path / "work"
    with pytest.raises(CasaTimeoutError):
        simulate_observation(
            point_sky(SMALL), SMALL, seed=1, timeout=0.5, work_dir=work, log_file=log
        )
    assert list(work.iterdir()) == []
    assert not processes_in(work)


@needs_casa
@pytest.mark.slow
def test_failure_carries_the_last_lines(tmp_path):
    array = tmp_path / "broken.cfg"
    array.write_text("# observatory=ALMA\n# coordsys=LOC\nnot an antenna\n")
    with pytest.raises(CasaError, match="failed with status 1") as caught:
        observe_uv(replace(SMALL, array=array))
    message = str(caught.value)
    assert "task_simobserve.py" in message
    assert "Error: " in message.splitlines()[-2]
    assert "Leap second" not in message
    assert len(message.splitlines()) <= 22
    assert str(caught.value.log_file) in message
    assert "simobserve" in caught.value.log_file.read_text()
    caught.value.log_file.unlink()


def test_casa_missing():
    code = """
import importlib.abc, sys
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0].startswith("casa"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocker())
from diffsky.simulation import (
    PRIORS, ObservationSetup, observe_uv, pwv_sweep, read_uv, simulate_observation, simulate_pair,
    simulate_pairs,
)
setup = ObservationSetup(array="unknown")
for call in (
    lambda: simulate_observation("not a sky", setup, seed=None),
    lambda: observe_uv(setup),
    lambda: read_uv("nowhere.ms"),
    lambda: simulate_pair("not a sky", setup, seed=None),
    lambda: simulate_pairs(PRIORS["independent"], setup, seed=None, store=None),
    lambda: pwv_sweep(PRIORS["independent"], setup, seed=None, store=None),
):
    try:
        call()
    except ImportError as error:
        print(error)
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('pip install "diffsky-radio[casa]"') == 6


@needs_casa
@pytest.mark.parametrize("populated", [False, True])
def test_measures_of_the_user_win(tmp_path, populated):
    measures = tmp_path / "measures"
    (measures / ("geodetic" if populated else "nothing")).mkdir(parents=True)
    (tmp_path / ".casa").mkdir()
    (tmp_path / ".casa" / "config.py").write_text(
        f"measurespath = {str(measures)!r}\ndatapath = [{str(measures)!r}]\n"
        "measures_auto_update = True\n"
    )
    code = f"""
import runpy, casadata
worker = runpy.run_path({_casa_worker.__file__!r})
worker["configure_casa"]("casa.log")
import casaconfig.config as config
print(config.measurespath == {str(measures)!r}, config.measurespath == casadata.datapath)
print(config.measures_auto_update, config.datapath[-1] == casadata.datapath)
"""
    done = run_python(code, HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    expected = "True False True True" if populated else "False True False True"
    assert done.stdout.split() == expected.split()


@pytest.mark.parametrize(
    ("timeout", "error"),
    [(0, ValueError), (-1, ValueError), (np.inf, ValueError), ("x", TypeError)],
)
def test_timeout_refused(timeout, error):
    with pytest.raises(error, match="timeout is"):
        run_job({}, timeout=timeout)
