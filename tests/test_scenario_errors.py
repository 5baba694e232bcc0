"""Bad scenario files: what is wrong is said in words, before anything runs."""

from __future__ import annotations

import math
from pathlib import Path

import gymnasium as gym
import pytest
from scenario_tables import GPU, MODEL, NAN, REPLICA, replica, workload, world, write

import gpuyard  # noqa: F401
from gpuyard.envs.scenario import ScenarioError, from_dict, load
from gpuyard.envs.workload.trace_file import TraceError

BAD = [
    # the cluster
    (world(replicas=[]), "replicas = []", "add a [[replicas]] table"),
    ({"workload": {}}, "replicas = []", "add a [[replicas]] table"),
    (world(replicas=3), "replicas = 3", "one [[replicas]] table"),
    (world(replicas={"gpu": "A100-80"}), "replicas = {'gpu'", "one [[replicas]] table"),
    (world(replicas=[3]), "replicas[0] = 3", "must be a table"),
    (world(replicas=[{"model": "Llama-3-8B"}]), "replicas[0].gpu is missing", "catalogue"),
    (world(replicas=[{"gpu": "A100-80"}]), "replicas[0].model is missing", "catalogue"),
    (replica(gpu="H900"), "replicas[1]: unknown GPU 'H900'", "did you mean"),
    (replica(gpu=3), "replicas[1].gpu = 3", "must be text"),
    (replica(gpu=["A100-80"]), "replicas[1].gpu = ['A100-80']", "must be text"),
    (replica(model="Lama"), "replicas[1]: unknown model 'Lama'", "did you mean Llama"),
    (replica(model=3), "replicas[1].model = 3", "must be text"),
    (replica(count=0), "replicas[1].count = 0", "whole number >= 1"),
    # the table, not the replica: it stands fourth
    (
        world(replicas=[{**REPLICA, "count": 3}, {**REPLICA, "scheduling_policy": "vtc"}]),
        "replicas[1].scheduling_policy = 'vtc'",
        "add [[clients]]",
    ),
    (
        world(
            replicas=[{**REPLICA, "count": 3}, {**REPLICA, "kv_write": "back", "count": 2}],
        ),
        "replicas[1].kv_write = 'back'",
        "give host_kv_gb, too",
    ),
    (replica(count=-2), "replicas[1].count = -2", "whole number >= 1"),
    (replica(count="two"), "replicas[1].count = 'two'", "whole number >= 1"),
    (replica(count=1.5), "replicas[1].count = 1.5", "whole number >= 1"),
    (replica(count=True), "replicas[1].count = True", "whole number >= 1"),
    (replica(kv_blocks=0), "replicas[1].kv_blocks = 0", "whole number >= 1"),
    (replica(kv_blocks="x"), "replicas[1].kv_blocks = 'x'", "whole number >= 1"),
    (replica(tp=0), "replicas[1]: ", "tp = 0: give a whole number >= 1"),
    (replica(tp="x"), "replicas[1].tp = 'x'", "must be a whole number"),
    (replica(tp=True), "replicas[1].tp = True", "must be a whole number"),
    (replica(tp=3), "tp = 3", "must divide the 32 heads"),
    (replica(node_gpus=9), "node_gpus = 9", "at most 8 A100-80"),
    (replica(ep=2), "ep = 2", "no experts; use 1"),
    (replica(dp=2), "dp = 2", "no experts; use 1"),
    (replica(dtype="int7"), "dtype 'int7'", "use one of bf16"),
    (replica(dtype=["bf16"]), "replicas[1].dtype = ['bf16']", "must be text"),
    (replica(dtype="fp8"), "A100-80 has no fp8", "use one of bf16"),
    (replica(kv_dtype="int7"), "kv_dtype = 'int7'", "use one of bf16"),
    (replica(kv_dtype=[1]), "replicas[1].kv_dtype = [1]", "must be text"),
    (replica(engine="x"), "engine = 'x'", "use one of vllm"),
    (replica(engine=19), "replicas[1].engine = 19", "must be text"),
    (replica(frontend_ms=-1.0), "replicas[1].frontend_ms = -1.0", "finite number >= 0"),
    (replica(gpu_memory_utilization=1.5), "gpu_memory_utilization = 1.5", "up to 1"),
    (replica(gpu_memory_utilization=NAN), "gpu_memory_utilization = nan", "above 0"),
    (replica(gpu_memory_utilization=0.0), "gpu_memory_utilization = 0.0", "above 0"),
    (replica(gpu_memory_utilization="x"), "gpu_memory_utilization = 'x'", "must be a number"),
    (replica(block_size=0), "block_size = 0", "whole number >= 1"),
    (replica(block_size=16.0), "replicas[1].block_size = 16.0", "must be a whole number"),
    (replica(block_size=24), "replicas[1].block_size = 24", "prefix blocks of 128 tokens"),
    (replica(max_num_seqs=0), "max_num_seqs = 0", "whole number >= 1"),
    (replica(max_num_seqs="x"), "replicas[1].max_num_seqs = 'x'", "must be a whole number"),
    (
        replica(max_num_batched_tokens=256, max_num_seqs=256),
        "max_num_batched_tokens = 256",
        "above max_num_seqs",
    ),
    (
        replica(max_num_batched_tokens=9, max_num_seqs=256),
        "max_num_batched_tokens = 9",
        "at least max_num_seqs",
    ),
    (
        replica(gpu="GB200-NVL72", max_num_seqs=40_000, max_num_batched_tokens=40_001),
        "max_num_seqs = 40000",
        "at most 32767",
    ),
    (replica(max_tokens=1), "replicas[1].max_tokens is unknown", "use one of"),
    # what does not fit
    (replica(model="Llama-3-70B"), "Llama-3-70B in bf16 does not fit on 1 x A100-80", "raise tp"),
    (replica(model="Llama-3-70B", kv_blocks=900), "does not fit on 1 x A100-80", "raise tp"),
    (workload(max_tokens=10**7), "10000000 prompt and output tokens", "lower workload.max_tokens"),
    (
        world(replicas=[{**REPLICA, "kv_blocks": 100}]),
        "8192 prompt and output tokens never fits: the largest KV cache holds 1600",
        "lower workload.max_tokens",
    ),
    # the workload
    (world(workload=3), "workload = 3", "must be a table"),
    (world(workload=[1]), "workload = [1]", "must be a table"),
    (workload(name="mine"), "has no field 'name'", "choose from prompt"),
    (workload(num_requests="many"), "workload.num_requests = 'many'", "whole number"),
    (workload(num_requests=-1), "workload.num_requests = -1", "whole number"),
    (workload(num_requests=1.5), "workload.num_requests = 1.5", "whole number"),
    (workload(num_requests=0), "workload.num_requests = 0", "set it, e.g. 512"),
    (workload(rate_per_s="x"), "rate_per_s = 'x'", "is not a number; choose"),
    (workload(rate_per_s=-1), "rate_per_s = -1", "out of range; choose"),
    (workload(rate_per_s=NAN), "rate_per_s = nan", "out of range; choose"),
    (workload(rate_scale=0), "workload.rate_scale = 0", "above 0"),
    (workload(rate_scale="x"), "workload.rate_scale = 'x'", "must be a number"),
    (workload(rate_scale=math.inf), "workload.rate_scale = inf", "finite number above 0"),
    (workload(preset="chats"), "unknown workload generator 'chats'", "choose one of chat"),
    (workload(preset=["chat"]), "workload.preset = ['chat']", "must be text"),
    (workload(max_tokens=0), "max_tokens = 0", "choose 16"),
    (workload(max_tokens=99.5), "max_tokens = 99.5", "is not a whole number"),
    (workload(bogus=1), "no field 'bogus'", "choose from prompt"),
    (workload(format="plain"), "no field 'format'", "choose from prompt"),
    (workload(prompt=3), "Generator.prompt", "30 non-decreasing lengths"),
    (workload(prompt=[1, 2]), "Generator.prompt", "30 non-decreasing lengths"),
    (workload(output=["a"] * 30), "Generator.output", "30 non-decreasing lengths"),
    (workload(output=[]), "Generator.output", "30 non-decreasing lengths"),
    (workload(prompt="long"), "unknown length sketch 'long'", "choose one of"),
    (workload(clients=3), "clients = 3", "must be a table of count"),
    (workload(clients=[1]), "clients = [1]", "must be a table of count"),
    (workload(clients={"count": "x"}), "Clients.count = 'x'", "not a whole number"),
    (workload(clients={"count": 2.5}), "Clients.count = 2.5", "not a whole number"),
    (workload(clients={"size": 1}), "clients has no field 'size'", "choose from count"),
    (workload(conversation="long"), "conversation = 'long'", "must be a table of"),
    (workload(conversation={"continue_prob": 3}), "continue_prob", "must be probabilities"),
    (workload(conversation={"continue_prob": ["x"]}), "continue_prob", "must be probabilities"),
    (workload(bursts=3), "bursts = 3", "must be a table of size_mu"),
    (workload(bursts={"size_mu": 1}), "bursts", "missing 9 required"),
    (workload(modulation={"hour_profile": 3}), "hour_profile", "finite rates >= 0"),
    (workload(modulation={"hour_profile": ["x"]}), "hour_profile", "finite rates >= 0"),
    (workload(modulation={"hour_profile": "x"}), "hour profile 'x'", "choose one of"),
    (workload(urgent_share=2), "urgent_share = 2", "choose 0 to 1"),
    (workload(prefix_block_tokens=0), "prefix_block_tokens = 0", "choose 1"),
    (workload(prefix_block_tokens=100), "block_size = 16", "prefix blocks of 100 tokens"),
    (workload(trace=3), "workload.trace = 3", "must be text"),
    (workload(trace="x.csv", format=3), "workload.format = 3", "must be text"),
    (workload(trace="x.csv", preset="chat"), "workload.preset is unknown", "use one of"),
    # what the router knows and may do
    (world(router=3), "router = 3", "must be a table"),
    (world(router="hold_s"), "router = 'hold_s'", "must be a table"),
    (world(router={"hold": 1}), "router.hold is unknown", "hold_limit_s, hold_s"),
    (world(router={"hold_s": -1}), "router.hold_s = -1", ">= 0"),
    (world(router={"hold_s": "x"}), "router.hold_s = 'x'", "must be a number"),
    (world(router={"hold_s": True}), "router.hold_s = True", "must be a number"),
    (world(router={"hold_s": 2.0}), "router.hold_s = 2.0", "router.hold_limit_s = 1.0"),
    (world(router={"hold_limit_s": -1}), "router.hold_limit_s = -1", "from 0 to 86400"),
    (world(router={"signal_interval_s": -1}), "router.signal_interval_s = -1", ">= 0"),
    (
        world(router={"signal_interval_s": 0.5, "signal_interval_max_s": 0.2}),
        "router.signal_interval_max_s = 0.2",
        "must not be below router.signal_interval_s = 0.5",
    ),
    (world(router={"signal_interval_s": NAN}), "router.signal_interval_s = nan", "finite"),
    (world(router={"signal_interval_s": math.inf}), "signal_interval_s = inf", "finite"),
    (world(estimates={"output": "x"}), "estimates.output = 'x'", "noisy, mean or oracle"),
    (world(estimates={"output": 3}), "estimates.output = 3", "must be text"),
    (world(estimates={"sigma": -1}), "estimates.sigma = -1", ">= 0"),
    (world(estimates={"sigma": 1e3}), "estimates.sigma = 1000.0", "at most 5"),
    (world(observation={"queue_rows": 0}), "observation.queue_rows = 0", "above 0"),
    (world(observation={"queue_rows": 1.5}), "observation.queue_rows = 1.5", "whole number"),
    (world(observation=3), "observation = 3", "must be a table"),
    # what is wanted
    (world(slo=5), "slo = 5", "must be a table"),
    (world(slo={"ttft_s": 0}), "slo.ttft_s = 0", "above 0"),
    (world(slo={"tpot_s": NAN}), "slo.tpot_s = nan", "above 0"),
    (world(slo={"tpot_s": "x"}), "slo.tpot_s = 'x'", "must be a number"),
    (world(reward=3), "reward = 3", "must be a table"),
    (world(reward={"speed": 1}), "reward.speed is unknown", "in_system"),
    (world(reward={"waiting": "x"}), "reward.waiting = 'x'", "must be a number"),
    (world(reward={"waiting": NAN}), "reward.waiting = nan", "must be a finite number"),
    # one's own hardware and models
    (world(gpus=3), "gpus = 3", "must be a table"),
    (world(gpus={"Mine": 3}), "gpus.Mine = 3", "must be a table"),
    (world(gpus={"Mine": {"sms": 8}}), "gpus: GPU 'Mine': fp16_tflops", "give a number"),
    (world(gpus={"Mine": {**GPU, "memory_gib": NAN}}), "memory_gib = nan", "finite number"),
    (world(gpus={"Mine": {**GPU, "like": "K80"}}), "like = 'K80'", "one of V100-16"),
    (world(models=[1]), "models = [1]", "must be a table"),
    (world(models={"Mine": {"layers": 2}}), "models: model 'Mine': heads", "give a number"),
    (world(models={"Mine": {**MODEL, "depth": 2}}), "depth = 2", "no such field"),
    # the rest
    (world(description=3), "description = 3", "must be text"),
    (world(fleet={}), "scenario.fleet is unknown", "use one of clients, description"),
]


@pytest.mark.parametrize(
    ("table", "what", "remedy"), BAD, ids=[f"{i}-{case[1][:40]}" for i, case in enumerate(BAD)]
)
def test_bad_input_is_named_with_a_remedy(table: dict, what: str, remedy: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        from_dict(table)
    message = str(caught.value)
    assert what in message and remedy in message, message
    assert "\n" not in message


def test_errors_are_value_errors() -> None:
    assert issubclass(ScenarioError, ValueError) and issubclass(TraceError, ValueError)


@pytest.mark.parametrize(
    ("given", "what", "remedy"),
    [
        ("routing-defualt", "scenario 'routing-defualt' is unknown", "choose one of"),
        ("", "scenario '' is unknown", "choose one of"),
        ("nowhere.toml", "nowhere.toml cannot be opened (No such file", "check the path"),
        (3, "scenario = 3", "a name, a path or a Scenario"),
        (None, "scenario = None", "a name, a path or a Scenario"),
    ],
)
def test_unknown_scenarios(given: object, what: str, remedy: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load(given)  # type: ignore[arg-type]
    assert what in str(caught.value) and remedy in str(caught.value)


def test_the_environments_raise_the_error_when_they_are_made() -> None:
    for make in (gym.make, gym.make_vec):
        with pytest.raises(ScenarioError, match="routing-defualt"):
            make("gpuyard/Routing-v0", scenario="routing-defualt")


@pytest.mark.parametrize(
    ("content", "what", "remedy"),
    [
        (b"[workload\n", "is not valid TOML", "at line 1"),
        (b"description = 'a'\nreplicas = [\n", "is not valid TOML", "correct that line"),
        (b"description = '\xff'\n", "is not UTF-8 text", "save it as such"),
        (b"", "replicas = []", "add a [[replicas]] table"),
        (b"[[replicas]]\ngpu = 'H900'\nmodel = 'Llama-3-8B'\n", "unknown GPU 'H900'", "did you"),
    ],
)
def test_errors_of_a_file_name_it(tmp_path: Path, content: bytes, what: str, remedy: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(ScenarioError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert what in str(caught.value) and remedy in str(caught.value)


def test_a_folder_is_no_scenario(tmp_path: Path) -> None:
    folder = tmp_path / "x.toml"
    folder.mkdir()
    with pytest.raises(ScenarioError, match="directory"):
        load(folder)


@pytest.mark.parametrize(
    ("text", "what", "remedy"),
    [
        ("[workload]\nnum_requests = 9223372036854775808", "workload.num_requests", "2147483647"),
        ("[workload]\nrate_per_s = 1" + "0" * 400, "workload.rate_per_s", "2147483647"),
        ("[slo]\nttft_s = 1e-320", "slo.ttft_s = 1e-320", "1e-30"),
        ("[slo]\nttft_s = 1" + "0" * 5000, "ttft_s = 1000", "2147483647"),
        ("[slo]\nttft_s = " + "[" * 5000, "ttft_s = [[", "12 deep"),
        ("[slo]\nttft_s = " + "[" * 40 + "]" * 40, "slo.ttft_s[0]", "12 deep"),
        ("[workload]\nnum_requests = 2000000000", "workload.num_requests", "33554432"),
        ("[workload]\nrate_per_s = 1e10", "rate_per_s = 1e+10", "at most 1e+06"),
        ("[[replicas]]\ncount = 65536\ngpu = 'A100-80'\nmodel = 'Llama-3-8B'", "count", "4096"),
        ("[cluster]\n[[cluster.pools]]\ngpu = 'A100-80'\nnodes = 32000000", "nodes", "1048576"),
        ("[cluster.fabric]\nuplinks = 2000000000\nspines = 1", "uplinks", "16777216"),
        ("[cluster]\n[jobs]\nnum_jobs = 256000000", "jobs.num_jobs = 256000000", "1e+07"),
    ],
)
def test_sizes_that_nothing_can_hold_are_refused(
    tmp_path: Path, text: str, what: str, remedy: str
) -> None:
    if "cluster" not in text and "replicas" not in text:
        text = "[[replicas]]\ngpu = 'A100-80'\nmodel = 'Llama-3-8B'\n" + text
    path = write(tmp_path, text)
    with pytest.raises(ScenarioError) as caught:
        load(path)
    message = str(caught.value)
    assert str(path) in message and what in message and remedy in message, message
    assert len(message) < 600
