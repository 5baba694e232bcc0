"""``gpuyard.evaluate`` and ``gpuyard.compare``: the command's numbers as pandas frames."""

import numpy as np
import pytest

import gpuyard
from gpuyard.cli import main
from gpuyard.envs.scenario import from_dict
from gpuyard.evaluation.tables import read_csv

pandas = pytest.importorskip("pandas")
SMALL = {
    "replicas": [{"gpu": "H100-SXM", "model": "Llama-3-8B", "count": 2}],
    "workload": {"preset": "chat", "num_requests": 40, "rate_per_s": 20.0},
}


def test_a_frame_has_what_the_command_saves(tmp_path):
    names = ["routing/random", "routing/least-requests"]
    frame = gpuyard.evaluate(names, "routing-default", seeds=2, progress=False)
    assert list(frame.columns[:3]) == ["scenario", "policy", "seed"]
    arguments = ["--policies", ",".join(names), "--seeds", "2", "--out", str(tmp_path)]
    assert main(["evaluate", "--scenarios", "routing-default", *arguments]) == 0
    for saved in read_csv(tmp_path / "results.csv"):
        rows = frame[frame["policy"] == f"routing/{saved.policy}"]
        for key, values in saved.metrics.items():
            np.testing.assert_array_equal(rows[key], values)


def test_gains_are_paired_and_signed(capsys):
    scenario = from_dict(SMALL, name="small")
    policies = {"mine": "routing/least-requests", "chance": gpuyard_random()}
    frame = gpuyard.evaluate(policies, scenario, seeds=[5, 6, 7], progress=True)
    assert "evaluate" in capsys.readouterr().err  # a bar
    gains = gpuyard.compare(frame, "mine", ["reward", "ttft_mean_s"])
    assert list(gains["against"]) == ["chance", "chance"] and list(gains["seeds"]) == [3, 3]
    by_hand = frame.pivot(index="seed", columns="policy", values="ttft_mean_s")
    wanted = (by_hand["chance"] - by_hand["mine"]).mean()  # less is better
    assert gains["gain"][1] == pytest.approx(wanted)
    assert gains["low"][1] < wanted < gains["high"][1]
    assert gains["beyond"][1] == (gains["low"][1] > 0 or gains["high"][1] < 0)
    assert {"reward", "ttft_mean_s", "goodput"} <= set(gpuyard.compare(frame, "mine")["metric"])


def gpuyard_random():
    from gpuyard import baselines

    return baselines.make("routing/random")


def test_errors_come_before_anything_is_played():
    for arguments, said in (
        ((["routing/random", "routing/random"], "routing-default"), "given twice"),
        ((["gang/sjf"], "routing-default"), "asks for route"),
        (("routing/rndom", "routing-default"), "did you mean"),
        (("routing/random", "nowhere"), "is unknown"),
        (([], "routing-default"), "at least one"),
        (("routing/random", "routing-default", []), "at least one"),
    ):
        with pytest.raises(ValueError, match=said):
            gpuyard.evaluate(*arguments, progress=False)
    frame = gpuyard.evaluate("routing/random", from_dict(SMALL), seeds=1, progress=False)
    with pytest.raises(ValueError, match="is not in the frame"):
        gpuyard.compare(frame, "learned")
    with pytest.raises(ValueError, match="no better direction"):
        gpuyard.compare(frame, "routing/random", ["time_s"])


def test_importing_gpuyard_stays_light():
    import subprocess
    import sys

    code = (
        "import sys, gpuyard\n"
        "assert not {'numba', 'pandas', 'torch'} & set(sys.modules)\n"
        "assert not hasattr(gpuyard, 'nothing')\n"
        "gpuyard.evaluate\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
