"""One process, two, and a real cluster of worker processes of which one is killed: the same results."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from gaussad_cli.errors import UserError
from gaussad_cli.evaluation.evaluate import evaluate_dataset
from gaussad_cli.evaluation.scorings import PAPER_SCORINGS
from gaussad_cli.evaluation.selection import Selection
from gaussad_cli.parallel import Distribution, run_tasks
from tests.conftest import ROOT, assert_user_error
from tests.evaluation.tasks import killing, slow_square
from tests.report.test_report import write_category

LITE0 = ("--backbone", "efficientnet-lite0", "--levels", "1-2")


@pytest.fixture(scope="module")
def cluster():
    """A scheduler and two worker processes on this machine."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        yield cluster


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for category in ("knob", "lid"):
        write_category(category, ["good"] * 6 + ["dent"] * 6)

    def evaluate(name, distribution):
        selection = Selection("my-net", Path("cache"))
        evaluate_dataset(selection, PAPER_SCORINGS, Path(name), sweep=True, distribution=distribution)
        folder = Path(name) / "made-up"
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return evaluate


def test_two_processes_give_the_same_bytes_as_one(results):
    one, two = results("one", Distribution()), results("two", Distribution(jobs=2))
    assert {"metrics.csv", "sweeps.csv", "scores/lid.csv"} <= set(one)
    assert one == two


def test_a_cluster_gives_the_same_bytes_as_one_process(results, cluster):
    assert results("one", Distribution()) == results("cluster", Distribution(scheduler=cluster.scheduler_address))


def test_a_worker_that_is_killed_loses_nothing(cluster, tmp_path):
    arguments = [(x, str(tmp_path)) for x in range(12)]
    squares = run_tasks(slow_square, arguments, Distribution(scheduler=cluster.scheduler_address))
    first = next(squares)
    victim = int(next(tmp_path.iterdir()).name.split("-")[1])
    os.kill(victim, signal.SIGKILL)
    assert [first, *squares] == [x * x for x in range(12)]
    runs = [int(path.name.split("-")[0]) for path in tmp_path.iterdir()]
    assert len(runs) > 12 or len(set(runs)) == 12
    assert any(int(path.name.split("-")[1]) != victim for path in tmp_path.iterdir())


def test_results_come_in_the_order_of_the_arguments():
    assert list(run_tasks(pow, [(x, 2) for x in range(9)], Distribution(jobs=2))) == [x**2 for x in range(9)]


def test_where_no_scheduler_answers_that_is_said(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("gaussad_cli.parallel._PATIENCE", 0.5)
    with pytest.raises(UserError, match=r"no dask scheduler answers at tcp://127\.0\.0\.1:9"):
        list(run_tasks(pow, [(1, 2)], Distribution(scheduler="tcp://127.0.0.1:9")))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A certificate that signs itself, as dask's configuration names it for client, scheduler and workers."""
    pytest.importorskip("cryptography")
    security = pytest.importorskip("distributed").security.Security.temporary()
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_text(security.tls_client_cert)
    (folder / "key.pem").write_text(security.tls_client_key)
    files = {"cert": str(folder / "cert.pem"), "key": str(folder / "key.pem")}
    of_roles = {f"{role}.{kind}": path for role in ("client", "scheduler", "worker") for kind, path in files.items()}
    tls = {f"distributed.comm.tls.{name}": path for name, path in {"ca-file": files["cert"], **of_roles}.items()}
    return {**tls, "distributed.comm.require-encryption": True}


def test_tls_takes_the_certificates_of_dasks_configuration_and_nothing_goes_without_them(certificates):
    dask, distributed = pytest.importorskip("dask"), pytest.importorskip("distributed")
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
    with dask.config.set(certificates):
        local = distributed.LocalCluster(protocol="tls", security=distributed.Security(), **options)
    with local:
        address = local.scheduler_address
        assert address.startswith("tls://")
        with dask.config.set(certificates):
            assert list(run_tasks(pow, [(2, 3), (3, 2)], Distribution(scheduler=address))) == [8, 9]
            with pytest.raises(UserError, match="dask's configuration requires encryption"):
                list(run_tasks(pow, [(2, 3)], Distribution(scheduler=address.replace("tls://", "tcp://"))))
        missing = {**certificates, "distributed.comm.tls.ca-file": "/nowhere"}
        with dask.config.set(missing), pytest.raises(UserError, match=r"cannot be used .*No such file"):
            list(run_tasks(pow, [(2, 3)], Distribution(scheduler=address)))
        with pytest.raises(UserError, match="needs certificates, and dask's configuration has none"):
            list(run_tasks(pow, [(2, 3)], Distribution(scheduler=address)))


PARENT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that started the tests in the background ignores it
from gaussad_cli.parallel import Distribution, run_tasks
from tests.evaluation.tasks import slow_square

for square in run_tasks(slow_square, [(x, sys.argv[1]) for x in range(10_000)], Distribution(jobs=2)):
    print(square, flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT], ids=lambda how: how.name)
def test_worker_processes_end_with_their_parent_however_it_ends(tmp_path, how):
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, tmp_path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT, text=True
    ) as parent:
        assert parent.stdout.readline() == "0\n"
        parent.send_signal(how)
        parent.communicate(timeout=20)  # workers hold the same standard output: it ends with the last of them


@pytest.mark.slow  # every worker imports torch
def test_extraction_fit_and_evaluation_on_a_cluster_by_the_command_line(gaussad, tiny, cluster):
    where = ("--scheduler", cluster.scheduler_address)
    done = gaussad("extract", "--data", tiny, *LITE0, *where, "--cache", "there")
    assert done.code == 0, done.err
    assert "24 images of 2 categories" in done.err
    assert gaussad("fit", *LITE0, *where, "--cache", "there").code == 0
    evaluated = gaussad("evaluate", *LITE0, *where, "--cache", "there", "--out", "there-results")
    assert evaluated.code == 0, evaluated.err
    gaussad("extract", "--data", tiny, *LITE0)
    gaussad("evaluate", *LITE0)
    pd.testing.assert_frame_equal(
        pd.read_csv("there-results/tiny/metrics.csv"), pd.read_csv("results/tiny/metrics.csv"), check_exact=True
    )


def test_a_category_that_is_broken_keeps_no_other_back_whoever_works(gaussad, extract_once, tiny):
    extract_once(tiny, *LITE0)
    next(Path("cache/tiny/efficientnet-lite0").glob("*/knob/test/level_1.npy")).write_bytes(b"x")
    done = gaussad("evaluate", *LITE0, "--jobs", "2")
    assert_user_error(done, "level_1.npy", "extract")
    assert set(pd.read_csv("results/tiny/metrics.csv")["category"]) == {"lid"}


def test_a_process_of_ours_that_is_killed_is_said():
    """The last one here: the others share its processes."""
    with pytest.raises(UserError, match="fewer --jobs"):
        list(run_tasks(killing, [(x,) for x in range(3)], Distribution(jobs=2)))
