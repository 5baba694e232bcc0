"""Scenarios with encode replicas: times by the cost model, columns, memory, refusals."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from cluster_worlds import Check, apart, make, service, small
from cluster_worlds import play as play_joint
from test_images_env import MOLMO, built, play, trace, unsquashed

from gpuyard.envs.hardware.catalogue import gpu
from gpuyard.envs.hardware.encoders import encoder
from gpuyard.envs.observation import Layout
from gpuyard.envs.perf import tabulate
from gpuyard.envs.perf.serving.embeddings import embedding_s, start_s
from gpuyard.envs.perf.serving.iteration import step_s
from gpuyard.envs.perf.serving.kv_capacity import kv_blocks
from gpuyard.envs.perf.serving.kv_groups import block_bytes
from gpuyard.envs.perf.serving.vision import compute_s, prepare_s
from gpuyard.envs.scenario import ScenarioError, from_dict

IMAGE = encoder("Molmo-7B-D").image(1024, 1024)
APART = {"gpu": "L40S", "count": 2}
IMAGES = {"model": "Molmo-7B-D"}
ASKED = {"preset": "azure-conv", "num_requests": 40, "rate_per_s": 30.0, "max_tokens": 4096}


def test_sending_embeddings_by_hand() -> None:
    """3,584 numbers of 16 bits over 0.92 of 200 Gbit/s, the slower of both NICs; 1 ms to start."""
    seconds = embedding_s(
        built(MOLMO, ASKED).replicas[0].deployment.model,
        gpu("L40S"),
        (gpu("H100-SXM"),),
        "nixl",
    )
    assert seconds == pytest.approx(2 * 3584 / (0.92 * 25e9))
    assert start_s("nixl") == 1e-3 and start_s("mooncake") == 3.4e-4


def test_the_first_token_waits_for_the_embeddings(tmp_path) -> None:
    """A request alone: prepared and encoded on an L40S, sent, computed on an H100."""
    workload = {"trace": trace(tmp_path, [0.0]), "images": IMAGES}
    scenario = built(MOLMO, workload, encoders=APART)
    d, there = scenario.replicas[0].deployment, gpu("L40S")
    encoded_s = prepare_s(there, IMAGE) + compute_s(encoder("Molmo-7B-D"), there, IMAGE)
    here_s = encoded_s + 1e-3 + 972 * 2 * 3584 / (0.92 * 25e9)
    expected = here_s + d.frontend_ms * 1e-3 + step_s(tabulate(d), 0, 0, [(992, 0)])
    _, table = play(scenario, "routing/round-robin")
    assert table["encoded_s"] == pytest.approx([encoded_s])
    assert table["here_s"] == pytest.approx([here_s])
    assert table["first_token_s"] == pytest.approx([expected])


def test_replicas_without_encoders_have_their_memory_for_kv_blocks() -> None:
    scenario = built(MOLMO, {**ASKED, "images": IMAGES}, encoders=APART)
    inline = built(MOLMO, {**ASKED, "images": IMAGES})
    more = scenario.replicas[0].kv_blocks - inline.replicas[0].kv_blocks
    d = inline.replicas[0].deployment
    # ViT-L/14: 304 million parameters of 16 bits
    assert more * block_bytes(d) == pytest.approx(2 * d.model.vision_params, abs=block_bytes(d))
    assert d.model.vision_params == 304e6
    own = {**MOLMO, "kv_blocks": kv_blocks(d) // 2}
    kept = built(own, {**ASKED, "images": IMAGES}, encoders=APART)
    assert kept.replicas[0].kv_blocks == kv_blocks(d) // 2


def test_columns_show_the_line_and_the_cache(tmp_path) -> None:
    """Three images at once on two encode replicas, then the first one again, on both replicas."""
    workload = {
        "trace": trace(tmp_path, [0.0, 0.0, 0.0, 5.0]),
        "images": {**IMAGES, "distinct": 1},
    }
    scenario = built(MOLMO, workload, count=2, encoders=APART)
    layout = scenario.layout
    assert layout == Layout({"route"}, ("vision", "encoders"))
    env = gym.make("gpuyard/Routing-v0", scenario=scenario).unwrapped
    observation, _ = env.reset(seed=0)
    seen, done = [], False
    while not done:
        assert env.observation_space.contains(observation)
        row, rows = observation["cluster"], observation["candidates"]
        seen.append(
            (
                round(unsquashed(row[layout.index("cluster", "encoding")], 8.0), 3),
                unsquashed(row[layout.index("cluster", "encode_wait_s")], 0.5),
                rows[:, layout.index("candidates", "image_here")].tolist(),
                unsquashed(rows[0, layout.index("candidates", "prefill_s")], 0.5),
            )
        )
        observation, _, done, _, _ = env.step(len(seen) % 2)
    there = gpu("L40S")
    whole_s = prepare_s(there, IMAGE) + compute_s(encoder("Molmo-7B-D"), there, IMAGE)
    assert [row[0] for row in seen] == [0, 1, 2, 0]
    assert [row[1] for row in seen] == pytest.approx([0, 0, whole_s, 0], rel=1e-4)
    assert not any(any(row[2]) for row in seen)  # nothing is kept
    # the third one waits for the first one's GPU, which takes longer than the CPU
    more_s = compute_s(encoder("Molmo-7B-D"), there, IMAGE)
    assert seen[2][3] - seen[1][3] == pytest.approx(more_s, rel=1e-3)
    assert seen[3][3] == pytest.approx(seen[0][3], rel=1e-5)
    kept = built(MOLMO, workload, count=2, encoders={**APART, "cache_tokens": 972})
    rows, table = play(kept, "routing/round-robin")
    here = [row[:, kept.layout.index("candidates", "image_here")].tolist() for row in rows]
    assert here == [[0, 0], [1, 1], [1, 1], [1, 1]]
    assert table["encoded_tokens"].tolist() == [972, 0, 0, 0]
    assert table["encoded_s"] == pytest.approx([whole_s] * 3 + [5.0])


@pytest.mark.parametrize("seed", range(4))
def test_every_image_is_encoded_once_or_not_sent(seed: int) -> None:
    """Random rules and random decisions, with holding, refusing and deadlines."""
    rng = np.random.default_rng(seed)
    router = {"hold_s": 0.05, "may_reject": True, "deadline_s": float(rng.choice([0.0, 0.3]))}
    scenario = built(
        MOLMO,
        {**ASKED, "rate_per_s": 90.0, "images": {**IMAGES, "share": 0.7}},
        count=2,
        router=router,
        encoders={"gpu": str(rng.choice(["L40S", "L4"])), "count": int(rng.integers(1, 4))},
    )
    env = gym.make("gpuyard/Routing-v0", scenario=scenario).unwrapped
    observation, _ = env.reset(seed=seed)
    done, waiting = False, scenario.layout.index("cluster", "encoding")
    while not done:
        now_s = env._world.state["clock"]["now_s"][0]
        encodings = env._world.state["encodings"][0]
        shown = unsquashed(observation["cluster"][waiting], 8.0)
        assert shown == pytest.approx((encodings["encoded_s"] > now_s).sum(), abs=1e-3)
        allowed = np.flatnonzero(observation["action_mask"])
        observation, _, done, _, _ = env.step(int(rng.choice(allowed)))
    table, state = env.results()["requests"], env._world.state
    sent, brings = table["replica"] >= 0, table["image"] >= 0
    encoded, queues = table["encoded_tokens"] > 0, state["encode_queues"][0]
    assert np.array_equal(encoded, sent & brings) and 0 < encoded.sum() < brings.sum()
    assert (table["encoded_tokens"][encoded] == 972).all()
    assert queues["images"].sum() == encoded.sum()
    assert np.array_equal(np.isnan(table["here_s"]), ~encoded)
    encodings = state["encodings"][0][: len(sent)]
    for p, queue in enumerate(queues):
        ends_s = np.sort(encodings["encoded_s"][encodings["replica"] == p])
        cost_s = env._world.shared["image_costs"]["encode_s"][0, 0]
        assert (np.diff(ends_s) > cost_s * (1 - 1e-9)).all()
        assert queue["busy_s"] == pytest.approx(len(ends_s) * cost_s)
    begun = encoded & np.isfinite(table["first_token_s"])
    assert begun.any() and (table["first_token_s"] > table["here_s"])[begun].all()
    assert ((table["outcome"] == 0) == np.isfinite(table["finish_s"])).all()


def test_worlds_side_by_side_keep_their_encode_replicas_apart() -> None:
    workload = {**ASKED, "images": {**IMAGES, "distinct": 7}}
    scenario = built(MOLMO, workload, count=2, encoders={**APART, "cache_tokens": 3000})
    together: Any = gym.make_vec(
        "gpuyard/Routing-v0", num_envs=2, scenario=scenario, autoreset_mode="Disabled"
    )
    alone = [gym.make("gpuyard/Routing-v0", scenario=scenario).unwrapped for _ in range(2)]
    seen, _ = together.reset(seed=[3, 4])
    rows = [env.reset(seed=3 + e)[0] for e, env in enumerate(alone)]
    for step in range(ASKED["num_requests"]):
        for e, row in enumerate(rows):
            assert all(np.array_equal(seen[key][e], row[key]) for key in row)
        actions = step % 2, step // 2 % 2
        seen, *_ = together.step(np.array(actions))
        rows = [env.step(actions[e])[0] for e, env in enumerate(alone)]
    lines = [env._world.state["encode_queues"]["images"][0].tolist() for env in alone]
    assert lines[0] != lines[1]


@pytest.mark.parametrize(
    ("encoders", "replica", "tables", "problem", "remedy"),
    [
        ({"count": 0}, {}, {}, "encoders.count = 0", "from 1 to 1024"),
        ({"count": 1.5}, {}, {}, "encoders.count = 1.5", "must be a whole number"),
        ({"gpu": "H1000"}, {}, {}, "encoders: ", "'H1000'"),
        ({"gpu": 4}, {}, {}, "encoders.gpu = 4", "must be text"),
        ({"link_gbps": 4}, {}, {}, "encoders.link_gbps is unknown", "cache_tokens, connector"),
        ({"connector": "tcp"}, {}, {}, "encoders.connector = 'tcp'", "nixl, mooncake"),
        ({"cache_tokens": 971}, {}, {}, "encoders.cache_tokens = 971", "972 visual tokens"),
        ({}, {"encoder_cache_tokens": 972}, {}, "encoder_cache_tokens = 972", "leave out [enc"),
        ({}, {"model": "Molmo-72B", "tp": 4}, {}, "'Molmo-72B' must be", "embeddings of one model"),
        ({}, {}, {"workload": ASKED}, "requests bring no images", "give images to the workload"),
        ({}, {}, {"lora": {"adapters": 3}}, "encoders.count = 2", "beside lora.adapters = 3"),
        (None, {}, {}, "encoders.gpu is missing", "give a name"),
        (7, {}, {}, "encoders = 7 must be a table", "[encoders]"),
    ],
)
def test_what_does_not_go_together_is_refused(
    encoders: Any, replica: dict, tables: dict, problem: str, remedy: str
) -> None:
    table = {
        "replicas": [{**MOLMO, **replica}],
        "workload": {**ASKED, "images": IMAGES},
        "encoders": {**APART, **encoders} if isinstance(encoders, dict) else encoders or {},
        **tables,
    }
    with pytest.raises(ScenarioError) as caught:
        from_dict(table)
    assert problem in str(caught.value) and remedy in str(caught.value)


def test_deployments_share_encode_replicas_for_one_of_them() -> None:
    workload = {**ASKED, "images": IMAGES}
    both = [service(name, model="Molmo-7B-D", workload=workload) for name in ("one", "other")]
    with pytest.raises(ScenarioError, match="several deployments bring images; give images to"):
        small(*both, encoders=APART)


def test_encode_prefill_decode_in_a_joint_world() -> None:
    """Replicas come, go and fail; who is handed back keeps its place in line or is encoded anew."""
    workload = {**ASKED, "num_requests": 60, "images": IMAGES}
    seeing = apart("seeing", model="Molmo-7B-D", workload=workload)
    faults = {"node_mtbf_h": 0.01, "repair_h": 0.002}  # a failure every 6 s among six nodes
    slow = {"gpu": "L4", "count": 1}
    env = make(small(seeing, service("chat", max=2), encoders=slow, faults=faults))
    for seed in (4, 5):
        info = play_joint(env, seed, Check())
        table, state = env.results()["requests"], env._world.state
        images = table["image"] >= 0
        assert np.array_equal(images, table["service"] == 0)
        times = table["encoded_tokens"][images] // 972
        assert (times >= 1).all() and state["encode_queues"]["images"][0].sum() == times.sum()
        assert info["handed_back"] > (times > 1).sum() > 0
        assert (table["finish_s"] > table["here_s"])[images].all()
        assert (table["first_token_s"] > table["here_s"])[images][times == 1].all()
        ends_s = np.sort(table["encoded_s"][images])
        assert (
            np.diff(ends_s) > (1 - 1e-9) * env._world.shared["image_costs"]["encode_s"][0, 0]
        ).all()


def test_results_are_kept_when_the_next_episode_begins():
    env = gym.make("gpuyard/Routing-v0", scenario="routing-encoders").unwrapped
    env.reset(seed=0)
    done = False
    while not done:
        _, _, done, _, _ = env.step(0)
    table = env.results()["requests"]
    kept = {name: values.copy() for name, values in table.items()}
    env.reset(seed=1)
    for name, values in kept.items():
        np.testing.assert_array_equal(table[name], values, err_msg=name)
