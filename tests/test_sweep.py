"""One executor for sweeps: the same results whoever plays, and nothing is lost."""

import signal
import subprocess
import sys
import types
from concurrent.futures import BrokenExecutor, Executor, Future
from pathlib import Path

import numpy as np
import pytest

from gpuyard.cli import main
from gpuyard.commands.choosing import policy
from gpuyard.envs.scenario.write import toml
from gpuyard.evaluation.rollout import rollout
from gpuyard.evaluation.sweep import executors, run, task
from gpuyard.evaluation.sweep.run import sweep, tasks_of
from gpuyard.evaluation.sweep.store import Store
from gpuyard.evaluation.sweep.task import Trace, World

SMALL = {
    "replicas": [{"gpu": "H100-SXM", "model": "Llama-3-8B", "count": 2}],
    "workload": {"preset": "chat", "num_requests": 40, "rate_per_s": 20.0},
}
BUSY = SMALL | {"workload": SMALL["workload"] | {"rate_per_s": 60.0}}
HERE = Path(__file__).parent
WORLDS = [World.of("calm", SMALL, HERE), World.of("busy", BUSY, HERE)]
NAMED = {"random": "routing/random", "least": "routing/least-requests"}


def same(one, other):
    assert [(r.scenario, r.policy) for r in one] == [(r.scenario, r.policy) for r in other]
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.seeds, b.seeds)
        assert a.metrics.keys() == b.metrics.keys() and a.times_s.keys() == b.times_s.keys()
        for key, values in a.metrics.items():
            np.testing.assert_array_equal(values, b.metrics[key], err_msg=key)
        for key, values in a.times_s.items():
            np.testing.assert_array_equal(values, b.times_s[key], err_msg=key)
        for name, table in a.first.items():
            for column, values in table.items():
                np.testing.assert_array_equal(values, b.first[name][column], err_msg=column)


def test_a_task_is_a_rollout_told_in_words():
    found = sweep(tasks_of(WORLDS, NAMED, range(5, 8)), quiet=True)
    wanted = [
        rollout(shown, policy(name), world.scenario(), np.arange(5, 8))
        for world in WORLDS
        for shown, name in NAMED.items()
    ]
    same(found, wanted)


def test_chunks_are_joined_in_order():
    tasks = tasks_of(WORLDS[:1], {"least": NAMED["least"]}, range(5, 10), chunk=2)
    assert [each.seeds for each in tasks] == [(5, 6), (7, 8), (9,)]
    wanted = rollout("least", policy(NAMED["least"]), WORLDS[0].scenario(), np.arange(5, 10))
    (found,) = sweep(tasks, quiet=True)
    same([found], [wanted])


def test_a_killed_worker_loses_nothing_and_two_play_as_one(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("GPUYARD_TEST_MARK", str(tmp_path / "mark"))
    policies = {"least": NAMED["least"], "dies": "sweep_policies:DiesOnce"}
    tasks = tasks_of(WORLDS, policies, range(5, 7))
    found = sweep(tasks, tmp_path, processes=2)
    assert (tmp_path / "mark").exists()  # one was killed
    assert len(list((tmp_path / "tasks").iterdir())) == len(tasks)
    assert capfd.readouterr().err.count("4/4") == 1
    same(found, sweep(tasks, quiet=True))  # by this process alone, the mark being there
    for world in ("calm", "busy"):
        least, dies = (r for r in found if r.scenario == world)
        np.testing.assert_array_equal(least.metrics["reward"], dies.metrics["reward"])


def test_what_was_finished_is_not_done_again(tmp_path, monkeypatch, capsys):
    played = []
    monkeypatch.setattr(run, "play", lambda each: played.append(each) or task.play(each))
    tasks = tasks_of(WORLDS, NAMED, range(5, 7))
    whole = sweep(tasks[:3], tmp_path)
    assert played == tasks[:3]
    same(sweep(tasks, tmp_path)[:3], whole)
    assert played == tasks and "3 of 4 tasks were done before" in capsys.readouterr().err
    files = sorted((tmp_path / "tasks").iterdir())
    files[0].write_bytes(files[0].read_bytes()[:100])  # a file that something else damaged
    same(sweep(tasks, tmp_path)[:3], whole)
    assert len(played) == 5


def test_an_interrupted_sweep_says_what_is_kept(tmp_path, monkeypatch, capsys):
    tasks = tasks_of(WORLDS, NAMED, range(5, 7))

    def interrupted(each):
        if each == tasks[1]:
            raise KeyboardInterrupt
        return task.play(each)

    monkeypatch.setattr(run, "play", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep(tasks, tmp_path)
    assert f"1 of 4 tasks are kept in {tmp_path}: the same command" in capsys.readouterr().err


def test_a_key_tells_apart_all_that_changes_numbers(tmp_path, monkeypatch):
    (tmp_path / "requests.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,1,1\n")
    table = SMALL | {"workload": {"trace": "requests.csv"}}
    (one,) = tasks_of([World.of("traced", table, tmp_path)], {"a": NAMED["least"]}, [5])
    (renamed,) = tasks_of([World.of("other", table, tmp_path)], {"b": NAMED["least"]}, [5])
    assert one.key() == renamed.key()
    keys = {one.key()}
    for world, name, seeds in (
        (World.of("traced", SMALL, tmp_path), NAMED["least"], [5]),
        (World.of("traced", table, tmp_path), NAMED["random"], [5]),
        (World.of("traced", table, tmp_path), NAMED["least"], [6]),
    ):
        keys.add(tasks_of([world], {"a": name}, seeds)[0].key())
    (tmp_path / "requests.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,1,2\n")
    keys.add(one.key())
    fed = World.of("fed", SMALL, tmp_path, Trace.of(tmp_path / "requests.csv", "auto", {}))
    keys.add(tasks_of([fed], {"a": NAMED["least"]}, [5])[0].key())
    monkeypatch.setattr(task, "code", lambda: "another version")
    keys.add(one.key())
    assert len(keys) == 7
    assert Store(None).load(one) is None


def test_workers_that_always_die_end_the_sweep(monkeypatch):
    class Dead(Executor):
        def submit(self, fn, /, *args, **kwargs):
            future = Future()
            future.set_exception(BrokenExecutor("gone"))
            return future

    monkeypatch.setattr(run, "executor", lambda kind, processes: Dead())
    with pytest.raises(ChildProcessError, match=r"lost 3 times .* calm: random; .*--processes"):
        sweep(tasks_of(WORLDS, NAMED, [5]), processes=2, quiet=True)


def test_a_refusal_ends_the_sweep_as_it_does_in_one_process():
    tasks = tasks_of(WORLDS, {"sjf": "gang/sjf"}, [5])
    with pytest.raises(ValueError, match="asks for route"):
        sweep(tasks, quiet=True)


def test_ray_is_asked_for_in_its_own_words(monkeypatch):
    """A stand-in of ``init``, ``remote`` with retries, ``future``, ``shutdown``, in line."""
    said = []

    class Reference:
        def __init__(self, value):
            self.value = value

        def future(self):
            future = Future()
            future.set_result(self.value)
            return future

    def remote(**options):
        said.append(options)
        return lambda fn: types.SimpleNamespace(remote=lambda *given: Reference(fn(*given)))

    stand_in = types.ModuleType("ray")
    stand_in.init = lambda **options: said.append(options)
    stand_in.remote, stand_in.shutdown = remote, lambda: said.append("shutdown")
    monkeypatch.setitem(sys.modules, "ray", stand_in)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    tasks = tasks_of(WORLDS, NAMED, range(5, 7))
    same(sweep(tasks, processes=3, kind="ray", quiet=True), sweep(tasks, quiet=True))
    assert said[0]["num_cpus"] == 3 and said[1] == {"max_retries": 3} and said[-1] == "shutdown"
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    sweep(tasks[:1], processes=3, kind="ray", quiet=True)
    assert "num_cpus" not in said[-3]


def test_ray_itself_plays_the_same_with_a_worker_killed(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("GPUYARD_TEST_MARK", str(tmp_path / "mark"))
    tasks = tasks_of(WORLDS, NAMED | {"dies": "sweep_policies:DiesOnce"}, range(5, 7))
    found = sweep(tasks, processes=1, kind="ray", quiet=True)
    assert (tmp_path / "mark").exists()
    same(found, sweep(tasks, quiet=True))


def test_a_missing_ray_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'gpuyard\[ray\]'"):
        executors.executor("ray", 2)
    with pytest.raises(ValueError, match="none of local, ray"):
        executors.executor("dask", 2)


def test_ray_is_not_loaded_unless_asked():
    code = "import sys, gpuyard.evaluation.sweep.run; assert 'ray' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_evaluate_gives_the_same_files_with_two_processes(tmp_path, capsys):
    """But for the pictures; 20 seeds are more than one batch."""
    file = tmp_path / "small.toml"
    file.write_text(toml(SMALL))
    rows = "".join(f"{i / 10},{100 + i},{20 + i}\n" for i in range(60))
    (tmp_path / "mine.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}")
    command = ["evaluate", "--scenarios", str(file), "--seeds", "20", "--policies"]
    command += ["routing/random,routing/least-requests", "--trace", str(tmp_path / "mine.csv")]
    assert main([*command, "--out", str(tmp_path / "one")]) == 0
    printed = capsys.readouterr().out.replace(str(tmp_path / "one"), "")
    assert main([*command, "--out", str(tmp_path / "two"), "--processes", "2"]) == 0
    assert capsys.readouterr().out.replace(str(tmp_path / "two"), "") == printed
    for name in ("results.csv", "results.md"):
        one, two = ((tmp_path / folder / name).read_text() for folder in ("one", "two"))
        assert one == two and "small-mine" in one


def test_ctrl_c_in_evaluate_keeps_what_is_finished_and_the_same_command_goes_on(
    tmp_path, monkeypatch, capsys
):
    """In one process, with a signal in the middle of the second of three policies."""
    monkeypatch.chdir(tmp_path)  # results go to the usual folder
    monkeypatch.setenv("GPUYARD_TEST_MARK", str(tmp_path / "mark"))
    Path("small.toml").write_text(toml(SMALL))
    command = ["evaluate", "--scenarios", "small.toml", "--seeds", "3", "--policies"]
    command += ["routing/random,sweep_policies:InterruptsOnce,routing/least-requests"]
    played = []
    monkeypatch.setattr(run, "play", lambda each: played.append(each.shown) or task.play(each))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    try:
        assert main(command) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    said = capsys.readouterr().err
    kept = Path("runs", "evaluation")
    assert f"1 of 3 tasks are kept in {kept}: the same command goes on from there" in said
    assert not (kept / "results.csv").exists() and len(list((kept / "tasks").iterdir())) == 1
    assert main(command) == 0
    assert "1 of 3 tasks were done before" in capsys.readouterr().err
    assert played == ["random", *["sweep_policies:InterruptsOnce"] * 2, "least-requests"]
    assert main([*command, "--out", "whole"]) == 0
    for name in ("results.csv", "results.md"):
        assert (kept / name).read_text() == Path("whole", name).read_text()


def test_a_key_knows_the_files_of_a_policy(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    rule, beside = tmp_path / "my_sweep_rule.py", tmp_path / "my_sweep_part.py"
    rule.write_text("from sweep_policies import DiesOnce as Mine\n")
    beside.write_text("WEIGHT = 1\n")
    saved = tmp_path / "saved.json"
    saved.write_text('{"format": "gpuyard-policy-1", "policy": "routing/random", "options": {}}')
    weights = tmp_path / "policy.safetensors"
    weights.write_bytes(b"1")
    (tmp_path / "note.txt").write_text("1")

    def keys():
        named = ["my_sweep_rule:Mine", f"compose:{NAMED['least']}+my_sweep_rule:Mine"]
        named += [str(saved), f"{weights}?greedy=true", NAMED["least"]]
        tasks = tasks_of(WORLDS[:1], {name: name for name in named}, [5])
        return [each.key() for each in tasks]

    def moved(path, content):
        before = keys()
        path.write_text(content)
        return [a != b for a, b in zip(before, keys(), strict=True)]

    assert moved(rule, "from sweep_policies import DiesOnce as Mine  # again\n") == [1, 1, 0, 0, 0]
    assert moved(beside, "WEIGHT = 2\n") == [1, 1, 0, 0, 0]  # which the rule may import
    assert moved(saved, saved.read_text().replace("random", "dynamo")) == [0, 0, 1, 0, 0]
    assert moved(weights, "2") == [0, 0, 0, 1, 0]
    assert moved(tmp_path / "note.txt", "2") == [0, 0, 0, 0, 0]


def test_who_may_be_left_out_is(capsys):
    tasks = tasks_of(WORLDS[:1], NAMED | {"sjf": "gang/sjf"}, [5])
    assert [r.policy for r in sweep(tasks, optional={"sjf"})] == ["random", "least"]
    assert "calm: sjf left out: " in capsys.readouterr().err
