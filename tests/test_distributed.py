"""Work on a real cluster of processes: the same bits, and what a killed worker costs."""

from __future__ import annotations

import math
import os
import platform
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import muscan
from muscan import reconstruction
from muscan.cli import main
from muscan.errors import InputError
from muscan.model.events import pair_tracks
from muscan.model.volume import VoxelGrid
from muscan.reconstruction.team import add_terms, groups, tree_sum
from muscan.studies import study

# In the extra `distributed`, which the gate installs and the extra `test` does not.
distributed = pytest.importorskip("distributed")

# These need the extra that the line above looks for, hence not at the top.
from muscan.pipeline.campaign import run_campaign  # noqa: E402
from muscan.pipeline.distributed import DaskTeam, connect, keep_memory  # noqa: E402

METHODS = ("poca", "asr", "em")
OPTIONS = {"em": {"smoothing": 0.5, "iterations": 6}}
VOXEL = 150.0


@pytest.fixture(scope="module", autouse=True)
def _jobs_are_found():
    """By this process and by the workers that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        folder = str(Path(__file__).parent / "studies")
        patch.setenv("PYTHONPATH", folder)
        patch.syspath_prepend(folder)
        yield


@pytest.fixture(scope="module")
def client():
    with connect("local:2") as found:
        yield found


@pytest.fixture(scope="module")
def scanned():
    hits = muscan.simulate("blocks", minutes=0.3, seed=4, workers=1)
    return hits, muscan.track(hits, workers=1)


def assert_same(a, b):
    for name in ("values", "uncertainty", "n_muons"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    np.testing.assert_equal(a.attributes, b.attributes)  # NaN is NaN


def kill_one_soon(client, after):
    """Kill a worker's process some time from now, and return the thread that does."""
    pid = next(iter(client.run(os.getpid, on_error="ignore").values()))

    def strike():
        time.sleep(after)
        os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=strike)
    thread.start()
    return thread, pid


@pytest.mark.parametrize("method", METHODS)
def test_volumes_are_the_same_bits_on_threads_and_on_a_cluster(client, scanned, method):
    options = {"method": method, "voxel": VOXEL, **OPTIONS.get(method, {})}
    alone = muscan.reconstruct(scanned[1], workers=1, **options)
    assert_same(muscan.reconstruct(scanned[1], workers=3, **options), alone)
    assert_same(muscan.reconstruct(scanned[1], client=client, **options), alone)


def test_portions_are_the_same_bits_on_threads_and_on_a_cluster(client, scanned):
    """As from a file that is read piece by piece; two portions have other lanes than one."""
    scatters = pair_tracks(scanned[1])
    grid = VoxelGrid.from_bounds(scanned[1].detector.bounds, VOXEL)
    half = len(scatters) // 2
    portions = [scatters.take(slice(0, half)), scatters.take(slice(half, None))]
    for method in ("poca", "asr"):
        alone = reconstruction.reconstruct(iter(portions), grid, method, workers=1)
        there = reconstruction.reconstruct(iter(portions), grid, method, team=DaskTeam(client))
        assert_same(there, alone)


def test_hits_are_the_same_bits_on_threads_and_on_a_cluster(client, scanned, tmp_path):
    hits = scanned[0]
    there = muscan.simulate("blocks", minutes=0.3, seed=4, client=client)
    for name, column in hits.columns().items():
        np.testing.assert_array_equal(getattr(there, name), column, err_msg=name)
    assert there.run == hits.run


@pytest.mark.slow
def test_the_prior_chosen_on_a_cluster_is_the_same(client, scanned):
    """The choice works on every other muon in larger voxels, which cuts across the lanes."""
    options = {"method": "em", "voxel": 200.0, "iterations": 3}
    alone = muscan.reconstruct(scanned[1], workers=1, **options)
    assert_same(muscan.reconstruct(scanned[1], client=client, **options), alone)


@pytest.mark.slow
def test_a_killed_worker_costs_no_hits(scanned):
    with connect("local:2") as client:
        thread, pid = kill_one_soon(client, 0.2)
        there = muscan.simulate("blocks", minutes=3, seed=4, client=client)
        thread.join()
        assert pid not in client.run(os.getpid, on_error="ignore").values()
    here = muscan.simulate("blocks", minutes=3, seed=4)
    for name, column in here.columns().items():
        np.testing.assert_array_equal(getattr(there, name), column, err_msg=name)


@pytest.mark.slow
def test_a_worker_killed_under_poca_costs_no_volume(scanned):
    """Its share of the muons is sent to another, whether it was at work on it yet or not."""
    alone = muscan.reconstruct(scanned[1], voxel=VOXEL)
    with connect("local:2") as client:
        for after in (0.02, 0.1):
            thread, pid = kill_one_soon(client, after)
            volume = muscan.reconstruct(scanned[1], voxel=VOXEL, client=client)
            thread.join()
            assert_same(volume, alone)
            client.wait_for_workers(2)
            assert pid not in client.run(os.getpid, on_error="ignore").values()


@pytest.mark.slow
def test_a_worker_killed_under_a_study_costs_no_result(tmp_path):
    options = {"scenes": ["uniform-0.6"], "scans": 3, "exposures": [5.0], "seed": 2}
    options |= {"method": "poca", "voxel": 150.0}
    with connect("local:2") as client:
        thread, pid = kill_one_soon(client, 0.5)
        there = study("calibrate", output=tmp_path / "there", client=client, **options)
        thread.join()
        client.wait_for_workers(2)
        assert pid not in client.run(os.getpid, on_error="ignore").values()
    here = study("calibrate", output=tmp_path / "here", workers=1, **options)
    assert there.n_failed == here.n_failed == 0
    assert there.n_scans == here.n_scans
    assert there.tables == here.tables


@pytest.mark.slow
def test_a_worker_killed_between_two_steps_costs_no_volume(scanned):
    """The muons that it kept are sent to another."""
    options = {"method": "em", "voxel": VOXEL, **OPTIONS["em"]}
    with connect("local:2") as client:
        pids = set(client.run(os.getpid, on_error="ignore").values())

        def strike(step, gain):
            if step == 2:
                os.kill(min(pids), signal.SIGKILL)

        volume = muscan.reconstruct(scanned[1], client=client, callback=strike, **options)
        assert min(pids) not in client.run(os.getpid, on_error="ignore").values()
    assert_same(volume, muscan.reconstruct(scanned[1], **options))


@pytest.mark.slow
def test_a_worker_killed_while_it_answers_costs_no_total():
    """Desks are lost with their worker; what they answered for is made again by tasks."""
    import jobs

    with connect("local:2") as client:
        team = DaskTeam(client)
        held = team.hold(float, [(1.0,), (2.0,)])
        assert team.totalling(jobs.slowly_times, held, 3.0, 0.0)() == 9.0
        answers = team.totalling(jobs.slowly_times, held, 3.0, 2.0)
        thread, pid = kill_one_soon(client, 0.5)
        assert answers() == 9.0
        thread.join()
        client.wait_for_workers(2)
        assert pid not in client.run(os.getpid, on_error="ignore").values()
        assert team.totalling(jobs.slowly_times, held, 4.0, 0.0)() == 12.0


def test_what_goes_wrong_at_a_desk_is_told(client):
    team = DaskTeam(client)
    total = team.totalling(math.sqrt, team.hold(float, [(1.0,), (-1.0,)]))
    with pytest.raises(ValueError, match="math domain error"):
        total()


def test_a_campaign_survives_a_killed_worker_and_goes_on_from_disk(tmp_path):
    import jobs

    (tmp_path / "marks").mkdir()
    listed = [{"seed": seed, "marks": str(tmp_path / "marks")} for seed in range(6)]
    with connect("local:2") as client:
        made = run_campaign(jobs.die_once, listed, tmp_path / "c", client=client)
        assert [record["seed"] for record in made.good] == list(range(6))
        assert (tmp_path / "marks" / "dead").exists()
        more = [{**listed[0], "seed": seed} for seed in range(8)]
        assert run_campaign(jobs.die_once, more, tmp_path / "c", client=client).n_run == 2
        bad = run_campaign(jobs.refuse_odd, [{"seed": 1}, {"seed": 2}], tmp_path, client=client)
    assert bad.errors == {0: "ValueError: seed 1 is odd"}


def test_from_the_command_line(scanned, tmp_path, capsys):
    from muscan import io

    io.write_tracks(tmp_path / "t.h5", scanned[1])
    words = ["reconstruct", tmp_path / "t.h5", "--voxel", 150, "-o", tmp_path / "v.h5"]
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in [*words, "--dask", "local:1"]])
    assert stopped.value.code == 0
    said = capsys.readouterr().err
    assert "1 Dask workers, dashboard at http" in said
    alone = muscan.reconstruct(scanned[1], voxel=150)
    np.testing.assert_array_equal(muscan.read(tmp_path / "v.h5").values, alone.values)


@pytest.mark.parametrize("address", ["local:", "local:0", "local:two"])
def test_a_wrong_number_of_workers_is_refused(address):
    with pytest.raises(InputError, match="names no number"), connect(address):
        pass


def test_a_scheduler_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr("muscan.pipeline.distributed.PATIENCE_S", 1)
    with pytest.raises(InputError, match="no scheduler at"), connect("tcp://127.0.0.1:9"):
        pass


def test_a_method_of_one_process_says_so(client, scanned, monkeypatch):
    monkeypatch.setitem(reconstruction.BUILTIN, "lone", "jobs:lone")
    with pytest.raises(InputError, match="'lone' works in one process"):
        muscan.reconstruct(scanned[1], method="lone", client=client)


@pytest.mark.parametrize("lanes", [1, 2, 3, 5, 6, 7, 8, 16])
@pytest.mark.parametrize("workers", range(1, 10))
def test_groups_are_branches_of_the_tree(lanes, workers):
    """What groups sum first comes out as what one process sums: floats do not forgive."""
    terms = np.random.default_rng(lanes).normal(size=lanes) * 10.0 ** np.arange(lanes)
    number = groups(workers, lanes)
    size = lanes // number
    assert number * size == lanes
    branches = [tree_sum(terms[first : first + size]) for first in range(0, lanes, size)]
    assert tree_sum(branches) == tree_sum(terms)


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc",
    reason="other C libraries have no such settings; the gate's has",
)
def test_freed_memory_is_not_paged_in_anew():
    resource = pytest.importorskip("resource", reason="page faults are counted on Unix alone")

    def faults():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        volumes = [np.ones(400_000) for _ in range(8)]
        del volumes
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    keep_memory()
    faults()
    # Of 6250 pages.
    assert faults() < 625


def test_terms_are_added_one_by_one():
    total = tree_sum([(1, np.array([1.0, 2.0])), (2, np.array([3.0, 4.0])), (3, np.zeros(2))])
    assert total[0] == 6
    np.testing.assert_array_equal(total[1], [4.0, 6.0])
    assert add_terms(1.5, 2) == 3.5
