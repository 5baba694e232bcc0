"""What-if: fields by path, prices, verdicts, and the command against playing each fleet by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from gpuyard.cli import main
from gpuyard.commands.choosing import policy
from gpuyard.envs.scenario import from_dict, load
from gpuyard.envs.scenario.read import read_table
from gpuyard.envs.scenario.write import toml
from gpuyard.evaluation.report import FIRST_SEED
from gpuyard.evaluation.rollout import Rollout, rollout
from gpuyard.evaluation.sweep.task import Trace, World
from gpuyard.evaluation.tables import read_csv
from gpuyard.evaluation.whatif import answer, chart, fleets, vary

SMALL = {
    "replicas": [{"gpu": "H100-SXM", "model": "Llama-3-8B", "count": 2}],
    "workload": {"preset": "chat", "num_requests": 40, "rate_per_s": 20.0},
    "slo": {"ttft_s": 0.1},
}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("2..5", (2, 3, 4, 5)),
        ("2..8..3", (2, 5, 8)),
        ("0.5..1.1..0.2", (0.5, 0.7, 0.9, 1.1)),
        ("1..2..0.5", (1.0, 1.5, 2.0)),
        ("7", (7,)),
        ("1,2.5,true", (1, 2.5, True)),
        ("fluid,flow", ("fluid", "flow")),
        ('"vllm-0.8",sglang', ("vllm-0.8", "sglang")),
    ],
)
def test_values(text, values):
    found = vary.variation(f"a.b={text}")
    assert found.path == "a.b" and found.values == values
    assert [type(value) for value in found.values] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("replicas[0].count", "write PATH=VALUES"),
        ("replicas[x].count=2", "write PATH=VALUES"),
        ("a.b=0.5..2", r"give a step, for example 0.5..2..0.25"),
        ("a.b=8..2", "a range goes up"),
        ("a.b=2..8..0", "a range goes up"),
        ("a.b=1..100000", "fewer than 1000 steps"),
        ("a.b=2..x", r"first..last..step"),
        ("a.b=2..3..4..5", r"first..last..step"),
        ("a.b=nan..5..1", r"first..last..step"),
        ("a.b=1,2,1", "1 is given twice"),
    ],
)
def test_values_that_are_none(text, said):
    with pytest.raises(ValueError, match=said):
        vary.variation(text)


def test_combinations():
    found = vary.fleets([vary.Variation("a.b", (1, 2)), vary.Variation("c.d", ("x", "y"))])
    assert [tuple(each.values()) for each in found] == [(1, "x"), (1, "y"), (2, "x"), (2, "y")]
    with pytest.raises(ValueError, match=r"a\.b is given twice"):
        vary.fleets([vary.Variation("a.b", (1,)), vary.Variation("a.b", (2,))])
    many = vary.Variation("a.b", tuple(range(40)))
    with pytest.raises(ValueError, match="more than 1000"):
        vary.fleets([many, vary.Variation("c.d", many.values)])


def test_fields_are_set_by_path():
    table = {"replicas": [{"count": 2}, {"count": 3}], "jobs": {"tenants": [{"name": "a"}]}}
    found = vary.changed(
        table, {"replicas[1].count": 7, "jobs.tenants[0].quota": 8, "cluster.fabric.spines": 4}
    )
    assert found == {
        "replicas": [{"count": 2}, {"count": 7}],
        "jobs": {"tenants": [{"name": "a", "quota": 8}]},
        "cluster": {"fabric": {"spines": 4}},
    }
    assert table["replicas"][1] == {"count": 3}  # a copy was changed


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("replcas[0].count", r"--vary replcas\[0\].count: the tables .* are .*replicas"),
        ("count", "the tables of a scenario are"),
        ("replicas[2].count", r"there is replicas\[0\] to replicas\[1\]"),
        ("deployments[0].min", "the scenario has no list 'deployments'; it has replicas"),
        ("workload.preset[0].x", "workload.preset is 'chat'; it has no entries"),
        ("replicas.count", r"replicas is a list of 2; name replicas\[0\].count"),
        ("cluster.pools[0].nodes", "cluster has no list 'pools'; it has preset: write"),
        ("workload.preset.x.y", r"workload.preset is 'chat', not a table with 'x'"),
        ("workload.preset.x", r"workload.preset is 'chat'; name workload.preset"),
    ],
)
def test_paths_that_lead_nowhere(path, said):
    table = {"replicas": [{}, {}], "workload": {"preset": "chat"}, "cluster": {"preset": "default"}}
    with pytest.raises(ValueError, match=said):
        vary.changed(table, {path: 1})


def base(table=SMALL):
    return World.of("small", table, Path.cwd())


def test_a_value_that_the_scenario_refuses_names_both():
    with pytest.raises(ValueError, match=r"small with replicas\[0\].count=0: .*count = 0"):
        fleets.fleet(base(), {"replicas[0].count": 0})
    with pytest.raises(ValueError, match=r"replicas\[0\].cuont is unknown"):
        fleets.fleet(base(), {"replicas[0].cuont": 2})


def fake(metrics, policy="p", scenario="s"):
    seeds = np.arange(len(next(iter(metrics.values()))))
    return Rollout(policy, scenario, seeds, {k: np.array(v) for k, v in metrics.items()})


def test_prices_by_hand():
    """An H100 is $2.50 an hour in the catalogue: two replicas of tp 2 are four of them."""
    table = SMALL | {"replicas": [SMALL["replicas"][0] | {"tp": 2}]}
    fleet = fleets.fleet(base(table), {"replicas[0].count": 2})
    price = load("routing-default").replicas[0].deployment.gpu.price_per_h
    assert fleet.price_per_h == 4 * price
    played = fake({"reward": [0.0, 0.0], "output_tokens_per_s": [1000.0, 2000.0]})
    found = fleets.priced(played, fleet).metrics["cost_per_mtok"]
    # at 1000 tokens/s a million takes 1000 s
    np.testing.assert_allclose(found, [4 * price * 1000 / 3600, 4 * price * 500 / 3600])


def test_a_cluster_is_paid_whether_used_or_not():
    table, path = read_table("placement-quota")
    fleet = fleets.fleet(World.of("quota", table, path.parent), {"cluster.pools[0].nodes": 20})
    gpu = fleet.scenario.cluster.pools[0].gpu
    assert fleet.price_per_h == 160 * gpu.price_per_h
    played = fleets.priced(fake({"reward": [0.0], "utilisation": [0.8]}), fleet)
    assert played.metrics["cost_per_gpu_h"] == pytest.approx(gpu.price_per_h / 0.8)


def test_more_nodes_have_the_same_jobs():
    """A load is per GPU: it is brought to the same jobs per hour, those of the file's cluster."""
    table, path = read_table("placement-quota")
    world = World.of("quota", table, path.parent)
    plain, more = (fleets.fleet(world, {"cluster.pools[0].nodes": n}) for n in (16, 32))
    one, two = (f.scenario.jobs.sample(np.random.default_rng(3)) for f in (plain, more))
    np.testing.assert_array_equal(one.arrival_s, two.arrival_s)
    np.testing.assert_array_equal(one.gpus, two.gpus)
    assert json.loads(plain.world.table)["jobs"]["load"] == 1.1
    both = fleets.fleet(world, {"cluster.pools[0].nodes": 32, "jobs.load": 2.2})
    np.testing.assert_allclose(
        both.scenario.jobs.sample(np.random.default_rng(3)).arrival_s, one.arrival_s / 2
    )


def test_verdicts_by_hand():
    slo = answer.Objective("slo_attainment", 0.99)
    ttft = answer.Objective("ttft_p99_s", 0.5)
    # two values: the interval is the mean ± 12.706 times half their distance
    for values, wanted in (
        ([0.995, 0.9951], answer.MET),
        ([0.98, 1.0], answer.OPEN),
        ([0.90, 0.9001], answer.MISSED),
        ([1.0, np.nan], answer.MISSED),
        ([1.0], answer.OPEN),
    ):
        assert slo.verdict(fake({"slo_attainment": values})) == wanted
    for values, wanted in (([0.4, 0.41], "met"), ([0.45, 0.52], "open"), ([0.6, 0.61], "missed")):
        assert ttft.verdict(fake({"ttft_p99_s": values})) == wanted
    assert slo.verdict(fake({"reward": [0.0]})) == answer.MISSED


def test_objectives_are_read():
    assert answer.objectives("slo=0.99,ttft=0.5") == [
        answer.Objective("slo_attainment", 0.99),
        answer.Objective("ttft_p99_s", 0.5),
    ]
    assert answer.objectives("") == []
    for text, said in (
        ("slo", "give a number"),
        ("slo=99", "a share, from 0 to 1"),
        ("speed=3", "use one of slo, ttft"),
        ("jct=inf", "finite"),
    ):
        with pytest.raises(ValueError, match=said):
            answer.objectives(text)


def test_the_cheapest_that_meets_it_and_what_may_be_cheaper():
    worlds = [fleets.fleet(base(), {"replicas[0].count": n}) for n in (1, 2, 3)]
    names = [fleet.world.name for fleet in worlds]
    slo = {
        (0, "a"): [0.90, 0.9001],
        (0, "b"): [0.98, 1.0],
        (1, "a"): [0.991, 0.9911],
        (1, "b"): [0.9951, 0.9951],
        (2, "a"): [1.0, 1.0],
    }
    played = [fake({"slo_attainment": v}, who, names[n]) for (n, who), v in slo.items()]
    wanted = answer.objectives("slo=0.99")
    found = answer.rows(worlds, played, wanted)
    assert [row.verdict for row in found] == ["missed", "open", "met", "met", "met"]
    best, uncertain = answer.answer(found, wanted)
    assert "replicas[0].count=2 under b, $" in best and "SLO % 99.51" in best
    assert "replicas[0].count=1 under b" in uncertain and "under a" not in uncertain
    assert "over 2 seeds" in uncertain and "--seeds 8" in uncertain
    none = answer.answer(found[:1], wanted)
    assert none[0].startswith("No fleet meets") and "Nearest: replicas[0].count=1" in none[1]


def test_accuracy_names_what_is_not_measured():
    (measured,) = answer.accuracy([fleets.fleet(base(), {"replicas[0].gpu": "H100-SXM"})])
    assert "measured" in measured and "not of these" in measured
    first, second = answer.accuracy([fleets.fleet(base(), {"replicas[0].gpu": "L20"})])
    assert "measured" not in first
    assert "30 % error" in second and "L20 gemm bf16 (from L40S)" in second


def test_the_command_is_each_fleet_played_by_hand(tmp_path, capsys):
    file = tmp_path / "small.toml"
    file.write_text(toml(SMALL))
    arguments = ["whatif", str(file), "--vary", "replicas[0].count=1..2", "--seeds", "3"]
    arguments += ["--policies", "routing/random,routing/least-requests", "--objective", "slo=0.5"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "$/M output tokens" in text and "Computed from" in text
    saved = read_csv(tmp_path / "out" / "results.csv")
    assert len(saved) == 4
    for played in saved:
        count = int(played.scenario.removeprefix("replicas[0].count="))
        table = SMALL | {"replicas": [SMALL["replicas"][0] | {"count": count}]}
        name = f"routing/{played.policy}"
        seeds = FIRST_SEED + np.arange(3)
        wanted = rollout("", policy(name), from_dict(table), seeds).metrics
        for key, values in wanted.items():
            np.testing.assert_array_equal(played.metrics[key], values)
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<circle") == 4 * 4 and "http" not in page.split("sources")[0]
    assert "| replicas[0].count | policy |" in (tmp_path / "out" / "results.md").read_text()
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2  # nothing is overwritten
    assert "has results" in capsys.readouterr().err
    assert main([*arguments, "--out", str(tmp_path / "out"), "--force"]) == 0
    assert "4 of 4 tasks were done before" in capsys.readouterr().err


def test_a_trace_can_be_varied(tmp_path, capsys):
    rows = "".join(f"{i / 10},{100 + i},{20 + i}\n" for i in range(30))
    trace = tmp_path / "mine.csv"
    trace.write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}")
    file = tmp_path / "small.toml"
    file.write_text(toml(SMALL))
    arguments = ["whatif", str(file), "--trace", str(trace), "--vary", "workload.rate_scale=1,4"]
    assert main([*arguments, "--seeds", "2", "--out", str(tmp_path / "out")]) == 0
    assert "small-mine" in (tmp_path / "out" / "report.html").read_text()
    by_name = {r.scenario: r for r in read_csv(tmp_path / "out" / "results.csv")}
    slow, fast = (by_name[f"workload.rate_scale={n}"].metrics for n in (1, 4))
    assert (fast["time_s"] < slow["time_s"] / 2).all()
    wanted = rollout(
        "", policy("routing/dynamo"), from_dict(SMALL).with_trace(trace), FIRST_SEED + np.arange(2)
    )
    np.testing.assert_array_equal(slow["ttft_p99_s"], wanted.metrics["ttft_p99_s"])


def test_a_panel_stands_to_scale():
    points = [chart.Point(x, y, 0.0) for x, y in ((1, 0.0), (2, 10.0), (4, 20.0))]
    text = chart.chart({"<one>": points}, "metric", "x", bound=15.0)
    places = [part.split('"')[0] for part in text.split('cx="')[1:]]
    heights = [float(part.split('"')[0]) for part in text.split('cy="')[1:]]
    left, middle, right = map(float, places)
    assert (middle - left) * 3 == pytest.approx(right - left, abs=0.3)
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.2)
    (bound,) = (float(part.split('y1="')[1].split('"')[0]) for part in text.split('"bound"')[1:])
    assert bound == pytest.approx((heights[1] + heights[2]) / 2, abs=0.2)
    assert "&lt;one&gt;" in text and "<one>" not in text
    words = chart.chart({"a": [chart.Point(x, 1.0, 0.1) for x in ("p", "q")]}, "m", "x", None)
    assert ">p</text>" in words and ">q</text>" in words


def test_a_job_list_can_be_varied(tmp_path):
    rows = "".join(f"{60 * i},{1 + i % 8},{600 + i}\n" for i in range(20))
    path = tmp_path / "jobs.csv"
    path.write_text(f"arrival_s,gpus,duration_s\n{rows}")
    table, file = read_table("placement-quota")
    trace = Trace.of(path, "auto", {})
    world = fleets.base_world("quota", table, file.parent, trace)
    changes = {"jobs.tenants[2].quota": 64, "cluster.pools[0].nodes": 20}
    scenario = fleets.fleet(world, changes).scenario
    assert list(scenario.jobs.source.gpus[:3]) == [1, 2, 3]
    assert scenario.jobs.queues[2].limit == 64 and scenario.cluster.num_gpus == 160
