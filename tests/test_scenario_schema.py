"""One schema: what it documents, which decisions follow from parts, whose models are trained."""

from __future__ import annotations

import copy
import pickle
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from placement_worlds import make, play, small
from scenario_tables import GPU, MODEL, REPLICA

from gpuyard.envs import placement_scenario, reward
from gpuyard.envs import scenario as package
from gpuyard.envs.engine.gangs.records import GANG_RULES
from gpuyard.envs.engine.network import records as network
from gpuyard.envs.engine.serving.records import SERVING_RULES
from gpuyard.envs.hardware import catalogue
from gpuyard.envs.observation import DECISIONS, Layout
from gpuyard.envs.parts.cluster import build_static, job_profiles
from gpuyard.envs.perf import Deployment
from gpuyard.envs.scenario import (
    TABLES,
    Faults,
    Router,
    Scenario,
    ScenarioError,
    from_dict,
    job_settings,
    load,
)
from gpuyard.envs.scenario.job_settings import Settings
from gpuyard.envs.scenario.tenants import Tenant

ENVS = Path(__file__).parents[1] / "envs"
SECTIONS = [(key, table.kind) for key, table in TABLES.items() if table.kind is not None]
PLAIN = [(key, item) for key, kind in SECTIONS for item in fields(kind)]


def written(default: Any) -> str:
    """Return a default as documentation tells it."""
    if isinstance(default, bool):
        return str(default).lower()
    return default if isinstance(default, str) else f"{default:g}"


# -- documentation -------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "item"), PLAIN, ids=[f"{key}.{f.name}" for key, f in PLAIN])
def test_every_field_is_documented_with_its_default(key: str, item: Any) -> None:
    assert f"\n| `{key}.{item.name}` ({written(item.default)}) " in str(package.__doc__)


def test_no_field_is_documented_that_does_not_exist() -> None:
    rows = [line.split("`")[1] for line in str(package.__doc__).splitlines() if line[:3] == "| `"]
    known = {f"{key}.{item.name}" for key, item in PLAIN}
    assert {row for row in rows if "." in row and "[" not in row} == known


def test_every_table_is_documented() -> None:
    for key, table in TABLES.items():
        names = (f"`{key}`", f"`[{key}]`", f"`[[{key}]]`", f"`[{key}.NAME]`", f"| `{key}.")
        assert any(name in str(package.__doc__) for name in names), key
        assert table.part in ("common", *DECISIONS)


def test_every_field_of_replicas_and_jobs_is_documented() -> None:
    (row,) = [line for line in str(package.__doc__).splitlines() if "| `[[replicas]]`" in line]
    for name in [item.name for item in fields(Deployment)] + ["count", "kv_blocks"]:
        assert f"`{name}`" in row
    rows = str(job_settings.__doc__)
    for item in fields(Settings):
        told = {"profiles": "`[jobs.profiles]`", "arrivals": "`[jobs.arrivals]`"}
        told["tenants"] = "`[[jobs.tenants]]`"
        default = item.default if isinstance(item.default, (str, int, float)) else None
        plain = f"`{item.name}` ({written(default)})" if default is not None else f"`{item.name}`"
        assert f"\n| {told.get(item.name, plain)} " in rows
    for item in fields(Tenant):
        assert f"`{item.name}`" in rows


# -- reward --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("part", "config"), [("route", SERVING_RULES), ("place", GANG_RULES)])
def test_the_engine_has_a_weight_for_every_term(part: str, config: np.dtype) -> None:
    weights = [name for name in config.names or () if name.startswith("w_")]
    assert weights == [f"w_{term}" for term in reward.terms(part)]
    assert sum(reward.weights(part).values()) == reward.weights(part)[reward.DEFAULT[part]] == 1.0


def test_the_documentation_of_terms_is_made_of_them() -> None:
    for term in reward.TERMS:
        assert f"\n| `{term.name}` | {term.meaning} |\n" in str(reward.__doc__)


def test_weights_reach_the_engine_by_name() -> None:
    weights = {term: 1.0 + at for at, term in enumerate(reward.terms("place"))}
    scenario = small(reward=weights)
    assert scenario.reward == {"place": weights}
    config = build_static(scenario, job_profiles(scenario)).gang_rules
    assert {term: config[f"w_{term}"][0] for term in weights} == weights
    assert small().reward["place"] == {**dict.fromkeys(weights, 0.0), "in_system": 1.0}


# -- parts and decisions -------------------------------------------------------------------------


def test_decisions_follow_from_the_parts() -> None:
    routing, placement = from_dict({"replicas": [REPLICA]}), small()
    assert routing.decisions == {"route"} and placement.decisions == {"place"}
    both = replace(placement, replicas=routing.replicas, workload=routing.workload)
    assert both.decisions == {"route", "place"}
    assert Scenario("empty").decisions == frozenset()
    for scenario in (routing, placement, both):
        assert scenario.layout == Layout(scenario.decisions)
        assert scenario.layout is scenario.layout
    assert replace(both, replicas=()).layout == Layout({"place"})


def test_absent_parts_are_empty() -> None:
    routing, placement = from_dict({"replicas": [REPLICA]}), small()
    assert routing.cluster is None and routing.jobs is None
    assert routing.faults == Faults()
    assert placement.replicas == () and placement.workload is None
    assert placement.router == Router()


def test_a_scenario_of_both_kinds_is_yet_to_come() -> None:
    with pytest.raises(ScenarioError) as caught:
        from_dict({"replicas": [REPLICA], "cluster": {}})
    assert str(caught.value) == (
        "scenario.replicas is unknown; use one of cluster, description, estimates, faults, gpus, "
        "jobs, limits, models, network, observation, reward, scheduler"
    )


@pytest.mark.parametrize(
    ("table", "field", "others"),
    [
        ("estimates", "duration", "output, sigma"),
        ("observation", "aggregate", "queue_rows"),
        (
            "reward",
            "cost",
            "imbalance, in_system, invalid, makespan, preemptions, slo, throughput, time_to_90, "
            "tokens, unserved, waiting",
        ),
    ],
)
def test_fields_of_an_absent_part_are_unknown(table: str, field: str, others: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        from_dict({"replicas": [REPLICA], table: {field: 1}})
    assert str(caught.value) == f"{table}.{field} is unknown; use one of {others}"


def test_scenarios_can_be_copied() -> None:
    for name in ("routing-default", "placement-default"):
        scenario = load(name)
        twin = pickle.loads(pickle.dumps(scenario))
        assert twin.layout == scenario.layout and twin.reward == scenario.reward
        assert copy.deepcopy(scenario).decisions == scenario.decisions


def test_the_old_names_still_hold() -> None:
    assert placement_scenario.PlacementScenario is Scenario
    assert placement_scenario.PLACEMENT_TERMS == reward.terms("place")


def test_names_stand_for_the_numbers_of_the_engine() -> None:
    fidelities = (network.FLUID, network.FLOW, network.OCCUPANCY, network.UNCONTENDED)
    names = [placement_scenario.FIDELITIES[number] for number in fidelities]
    assert names == ["fluid", "flow", "occupancy", "none"]
    routings = (network.ECMP, network.BALANCED, network.SOURCE)
    names = [placement_scenario.ROUTINGS[number] for number in routings]
    assert names == ["ecmp", "balanced", "source"]


# -- models and GPUs of one's own ----------------------------------------------------------------


def with_models(name: str, **shape: int) -> Scenario:
    """Return a small placement scenario whose jobs train a model of its own, called ``name``."""
    table = {
        "cluster": {
            "pools": [{"gpu": "V100-32", "nodes": 16, "gpus_per_node": 4, "nics_per_node": 4}],
            "fabric": {"nodes_per_leaf": 4, "spines": 4, "uplinks": 8},
        },
        "jobs": {"num_jobs": 20, "load": 0.9, "max_gpus": 32, "profiles": {name: 1.0}},
        "models": {name: {**MODEL, **shape}},
    }
    return from_dict(table)


def test_jobs_train_a_model_of_the_scenario() -> None:
    scenario = with_models("Tiny")
    profiles = job_profiles(scenario)
    assert {profile.name for profile in profiles} == {"Tiny"}
    for profile in profiles:
        assert profile.model is not None and profile.model.params == 1_823_744  # by hand
        assert profile.compute_s > 0
    _, info = play(make(scenario), 0)
    assert info["finished"] == 20


def test_a_model_of_the_scenario_comes_before_the_catalogue() -> None:
    own, deeper = with_models("Llama-3-8B"), with_models("Llama-3-8B", layers=4)
    first, second = job_profiles(own)[0], job_profiles(deeper)[0]
    assert first.name == second.name == "Llama-3-8B" and first.model != second.model
    assert first.compute_s < second.compute_s
    assert catalogue.model("Llama-3-8B").layers == 32


def test_a_job_list_may_name_a_model_of_the_scenario(tmp_path: Path) -> None:
    path = tmp_path / "jobs.csv"
    path.write_text("arrival_s,gpus,duration_s,profile\n0,4,600,Tiny\n60,8,600,Tiny\n")
    scenario = with_models("Tiny").with_trace(path)
    assert scenario.jobs is not None and set(scenario.jobs.profiles) == {"Tiny"}
    _, info = play(make(scenario), 0)
    assert info["finished"] == 2
    with pytest.raises(ScenarioError, match="unknown job profile 'Tiny'"):
        small().with_trace(path)


def test_a_model_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ScenarioError, match=r"jobs: Huge on 32 x V100-32: at least \d+ GiB"):
        with_models("Huge", layers=100, hidden=8192, heads=64, head_dim=128, ffn=28672)


def test_jobs_run_on_a_gpu_of_the_scenario() -> None:
    table = {
        "cluster": {
            "pools": [{"gpu": "Mine", "nodes": 8}, {"gpu": "A100-80", "nodes": 8}],
            "fabric": {"nodes_per_leaf": 4, "spines": 4, "uplinks": 8},
        },
        "gpus": {"Mine": GPU},
        "jobs": {"num_jobs": 10, "max_gpus": 16, "profiles": {"VGG-16": 0.5, "Tiny": 0.5}},
        "models": {"Tiny": MODEL},
    }
    scenario = from_dict(table)
    profiles = job_profiles(scenario)
    assert {profile.gpu.name for profile in profiles} == {"Mine"}  # of the higher peak
    speeds = build_static(scenario, profiles).speeds
    assert (speeds[:, 0] == 1.0).all() and (speeds[:, 1] < 1.0).all()
