"""Training: reproducible, resumable to the bit, and it learns."""

import base64
import contextlib
import io
import json
import os
import pickle
import signal
import zipfile
from dataclasses import replace

import agents_fake  # noqa: F401  (registers the queue world)
import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO

from gpuyard.agents import callbacks, checkpoint, training
from gpuyard.agents.callbacks import CheckpointCallback, read_curve
from gpuyard.agents.config import TrainConfig
from gpuyard.agents.policy import LearnedPolicy

TINY = TrainConfig(
    env="gpuyard-tests/Queue-v0", scenario="queues", teacher="", steps=2048, num_envs=8,
    n_steps=64, batch_size=256, epochs=2, gamma=0.9, checkpoint_every=0, width=16,
)  # fmt: skip


def weights(path):
    parameters = MaskablePPO.load(path, device="cpu").policy.state_dict()
    return {name: value.numpy() for name, value in parameters.items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def run(tmp_path, **changes):
    return training.train(replace(TINY, out=str(tmp_path), **changes), progress=False)


def test_same_seed_same_weights(tmp_path):
    first, second = run(tmp_path, name="a"), run(tmp_path, name="b")
    assert_same(weights(first.model), weights(second.model))
    other = weights(run(tmp_path, name="c", seed=1).model)
    assert any(not np.array_equal(other[k], v) for k, v in weights(first.model).items())


def test_resume_equals_an_uninterrupted_run(tmp_path):
    whole = run(tmp_path, name="whole", checkpoint_every=1024)
    assert [p.name for p in (whole.folder / "checkpoints").iterdir()] == ["000000001024.zip"]
    expected = weights(whole.model)
    curve = read_curve(whole.folder / "learning_curve.csv")
    whole.model.unlink()
    resumed = training.resume(whole.folder, progress=False)
    assert_same(weights(resumed.model), expected)
    assert read_curve(resumed.folder / "learning_curve.csv") == curve
    assert [entry["decisions"] for entry in curve] == [512.0, 1024.0, 1536.0, 2048.0]


def test_ctrl_c_saves_a_checkpoint_that_continues_exactly(tmp_path, monkeypatch):
    expected = weights(run(tmp_path, name="whole").model)
    step = CheckpointCallback._on_step

    def press(self):
        if self.num_timesteps == 600:  # in the middle of the second update
            os.kill(os.getpid(), signal.SIGINT)
        return step(self)

    monkeypatch.setattr(CheckpointCallback, "_on_step", press)
    before = signal.getsignal(signal.SIGINT)
    cut = run(tmp_path, name="cut")
    assert signal.getsignal(signal.SIGINT) is before
    assert cut.model is None
    assert [p.name for p in (cut.folder / "checkpoints").iterdir()] == ["000000001024.zip"]
    monkeypatch.undo()
    assert_same(weights(training.resume(cut.folder, progress=False).model), expected)


def test_learns_to_avoid_the_queue(tmp_path):
    trained = run(tmp_path, name="long", steps=24_576, num_envs=16, learning_rate=3e-3, width=32)
    rewards = [entry["reward"] for entry in read_curve(trained.folder / "learning_curve.csv")]
    assert np.mean(rewards[-3:]) > 0.5 * np.mean(rewards[:3])  # rewards are negative


def test_scalars_reach_tensorboard(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    trained = run(tmp_path)
    events = accumulator.EventAccumulator(str(trained.folder / "tensorboard"))
    events.Reload()
    assert {"episode/reward", "episode/ttft_mean_s", "train/value_loss"} <= set(
        events.Tags()["scalars"]
    )


def test_names_of_runs(tmp_path):
    assert run(tmp_path, steps=1).folder.name == "queues"
    assert run(tmp_path, steps=1).folder.name == "queues-2"
    run(tmp_path, steps=1, name="mine")
    with pytest.raises(FileExistsError, match="--resume"):
        run(tmp_path, steps=1, name="mine")


def test_nothing_to_resume(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run to resume"):
        training.resume(tmp_path)
    finished = run(tmp_path, steps=1)
    before = finished.model.read_bytes()
    with pytest.raises(FileExistsError, match="the run is finished"):
        training.resume(finished.folder)
    assert finished.model.read_bytes() == before


def test_a_checkpoint_cut_short_is_passed_over(tmp_path):
    whole = run(tmp_path, name="whole", checkpoint_every=512)
    expected = weights(whole.model)
    whole.model.unlink()
    _, newest = checkpoint.found(whole.folder / "checkpoints")
    newest.write_bytes(newest.read_bytes()[:-2000])
    with pytest.warns(UserWarning, match=f"{newest.name}: damaged .* an older one"):
        resumed = training.resume(whole.folder, progress=False)
    assert_same(weights(resumed.model), expected)


def test_a_run_stopped_before_its_first_checkpoint_begins_again(tmp_path):
    expected = weights(run(tmp_path, name="whole").model)
    again = run(tmp_path, name="stopped")
    again.model.unlink()
    assert_same(weights(training.resume(again.folder, progress=False).model), expected)


def test_an_empty_folder_is_used_and_time_makes_checkpoints(tmp_path, monkeypatch):
    monkeypatch.setattr(callbacks, "APART_S", 0.0)
    (tmp_path / "mine").mkdir()
    trained = run(tmp_path, name="mine", checkpoint_every=1_000_000)
    assert [p.name for p in checkpoint.found(trained.folder / "checkpoints")] == [
        "000000001024.zip",
        "000000001536.zip",
    ]
    assert not list(trained.folder.rglob("unfinished*"))


class Evil:
    def __reduce__(self):
        return (os.mkdir, (os.environ["EVIL"],))


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """The folder that unpickling an ``Evil`` makes."""
    monkeypatch.setenv("EVIL", str(tmp_path / "evil"))
    return tmp_path / "evil"


def with_entries(path, change):
    """Write a zip file again with what ``change`` makes of its entries, by name."""
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in change(entries).items():
            file.writestr(name, content)


def test_code_in_a_model_does_not_run(tmp_path, evil):
    """Every pickle of the file runs code when it is loaded by SB3; ours refuses the file, and where
    it is told to read it, takes tensors and JSON only."""
    trained = run(tmp_path, name="mine")
    before = LearnedPolicy.load(trained.policy).network.state_dict()

    def serialized(entries):
        data = json.loads(entries["data"])
        for value in data.values():
            if isinstance(value, dict) and ":serialized:" in value:
                value[":serialized:"] = base64.b64encode(pickle.dumps(Evil())).decode()
        return entries | {"data": json.dumps(data).encode()}

    def weights(entries):
        content = io.BytesIO()
        torch.save(Evil(), content)
        return entries | {"policy.pth": content.getvalue()}

    with_entries(trained.model, serialized)
    with pytest.raises(ValueError, match="holds pickles"):
        LearnedPolicy.load(trained.model)
    again = LearnedPolicy.load(trained.model, allow_pickle=True).network.state_dict()
    assert all(torch.equal(again[name], value) for name, value in before.items())
    with_entries(trained.model, weights)
    with pytest.raises(ValueError, match="something else than weights"):
        LearnedPolicy.load(trained.model, allow_pickle=True)
    assert not evil.exists()
    with contextlib.suppress(Exception):  # it is no model any more
        MaskablePPO.load(trained.model)
    assert evil.exists()


@pytest.mark.parametrize("content", ["pickle", "zip"])
def test_a_pickle_under_a_safe_name_does_not_run(tmp_path, evil, content):
    path = tmp_path / "policy.safetensors"
    path.write_bytes(pickle.dumps(Evil()))
    if content == "zip":
        torch.save(Evil(), path)
    with pytest.raises(ValueError, match="not a whole model"):
        LearnedPolicy.load(path)
    assert not evil.exists()


def test_code_in_a_checkpoint_does_not_run(tmp_path, evil):
    trained = run(tmp_path, name="mine", checkpoint_every=1024)
    expected = weights(trained.model)
    objects = io.BytesIO()
    np.save(objects, np.array([Evil()]), allow_pickle=True)

    def arrays(entries):
        return {
            name: objects.getvalue() if name.endswith(".npy") else content
            for name, content in entries.items()
        }

    with_entries(checkpoint.found(trained.folder / "checkpoints")[-1], arrays)
    trained.model.unlink()
    with pytest.warns(UserWarning, match="Object arrays cannot be loaded"):
        resumed = training.resume(trained.folder, progress=False)
    assert not evil.exists()
    assert_same(weights(resumed.model), expected)


def test_a_run_that_ends_by_the_clock_keeps_what_it_has(tmp_path):
    trained = run(tmp_path, minutes=1e-9)
    assert trained.policy is not None and trained.policy.exists()
    assert MaskablePPO.load(trained.model).num_timesteps == TINY.num_envs  # one step of each
    assert LearnedPolicy.load(trained.policy).network.width == 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps = 0: must be at least 1"),
        ({"gamma": 1.5}, r"gamma = 1.5: must lie in \(0, 1\]"),
        ({"seed": -1}, "seed = -1: must not be negative"),
        ({"minutes": -1.0}, "minutes = -1.0: must not be negative"),
        ({"learning_rate": 0.0}, "learning_rate = 0.0: must be positive"),
    ],
)
def test_settings_are_checked(change, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**change)


def test_settings_survive_a_file(tmp_path):
    TINY.save(tmp_path / "config.json")
    assert TrainConfig.load(tmp_path / "config.json") == TINY
    (tmp_path / "config.json").write_text('{"stepz": 1}')
    with pytest.raises(ValueError, match="unknown setting stepz"):
        TrainConfig.load(tmp_path / "config.json")
