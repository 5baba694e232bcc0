"""Scenarios whose requests bring images: times by the cost model, columns, results, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from cluster_worlds import Check, apart, make, service, small
from cluster_worlds import play as play_joint

import gpuyard  # noqa: F401
from gpuyard import baselines
from gpuyard.envs.engine.serving.records import DECODE
from gpuyard.envs.hardware.catalogue import model
from gpuyard.envs.hardware.encoders import encoder
from gpuyard.envs.observation import Layout
from gpuyard.envs.perf import tabulate
from gpuyard.envs.perf.serving.iteration import step_s
from gpuyard.envs.perf.serving.kv_capacity import kv_blocks
from gpuyard.envs.perf.serving.vision import compute_s, prepare_s
from gpuyard.envs.scenario import Scenario, ScenarioError, from_dict
from gpuyard.envs.workload.requests import presets
from gpuyard.envs.workload.requests.images import Images
from gpuyard.envs.workload.requests.mixture import Mixture
from gpuyard.envs.workload.requests.source import Workload

MOLMO = {"gpu": "H100-SXM", "model": "Molmo-7B-D"}
LAPTOP = {
    **{"sms": 32, "fp16_tflops": 10.4, "bf16_tflops": 10.4, "memory_gib": 48},
    **{"bandwidth_gbps": 400, "like": "A100-80"},
}


def trace(folder: Path, arrivals: list[float], prompt: int = 20) -> str:
    path = folder / "requests.csv"
    rows = [f"{arrival},{prompt},2" for arrival in arrivals]
    path.write_text("\n".join(["arrival_s,prompt_tokens,output_tokens", *rows]) + "\n")
    return str(path)


def built(replica: dict, workload: dict, count: int = 1, **tables: Any) -> Scenario:
    rows = [{**replica, "count": count}]
    return from_dict({"replicas": rows, "workload": workload, **tables})


def play(scenario: Scenario, policy: str) -> tuple[list[np.ndarray], dict[str, Any]]:
    """Play one episode; returns the candidates of every decision, and the requests' table."""
    env = gym.make("gpuyard/Routing-v0", scenario=scenario).unwrapped
    router = baselines.make(policy)
    router.reset(scenario, 1, 0)
    observation, _ = env.reset(seed=0)
    seen, done = [], False
    while not done:
        assert env.observation_space.contains(observation)
        seen.append(observation["candidates"].copy())
        action = router.act({key: value[None] for key, value in observation.items()})
        observation, _, done, _, _ = env.step(int(action[0]))
    return seen, env.results()["requests"]


def unsquashed(value: float, scale: float) -> float:
    return scale * value / (1.0 - value)


@pytest.mark.parametrize(
    ("name", "side", "tokens"), [("FastVLM-0.5B", 1024, 256), ("LLaVA-OneVision-0.5B", 1152, 7290)]
)
def test_the_first_token_waits_for_the_encoder(name, side, tokens, tmp_path) -> None:
    """A request alone: preparation, front end, encoder and prompt, one after the other."""
    scenario = built(
        {"gpu": "laptop", "model": name, "attention": "naive", "max_num_batched_tokens": 8192},
        {
            "trace": trace(tmp_path, [0.0]),
            "images": {"model": name, "sizes": [[side, side]]},
        },
        gpus={"laptop": LAPTOP},
    )
    d, image = scenario.replicas[0].deployment, encoder(name).image(side, side)
    assert image.tokens == tokens
    expected = d.frontend_ms * 1e-3 + prepare_s(d.gpu, image)
    expected += compute_s(encoder(name), d.gpu, image)
    expected += step_s(tabulate(d), 0, 0, [(tokens + 20, 0)])
    _, table = play(scenario, "routing/round-robin")
    assert table["first_token_s"] == pytest.approx([expected])
    assert table["encoded_tokens"].tolist() == [tokens]


def test_columns_know_the_encoder_cache(tmp_path) -> None:
    """One image for all, far apart, in turns on two replicas."""
    scenario = built(
        MOLMO,
        {
            "trace": trace(tmp_path, [0.0, 5.0, 10.0]),
            "images": {"model": "Molmo-7B-D", "distinct": 1},
        },
        count=2,
    )
    layout = scenario.layout
    assert layout == Layout({"route"}, ("vision",))
    seen, table = play(scenario, "routing/round-robin")
    here = [rows[:, layout.index("candidates", "image_here")].tolist() for rows in seen]
    assert here == [[0, 0], [1, 0], [1, 1]]
    assert table["encoded_tokens"].tolist() == [972, 972, 0] and table["image"].tolist() == [0] * 3
    gpu = scenario.replicas[0].deployment.gpu
    image = encoder("Molmo-7B-D").image(1024, 1024)
    predicted = [
        unsquashed(rows[0, layout.index("candidates", "prefill_s")], 0.5) for rows in seen[:2]
    ]
    saved_s = compute_s(encoder("Molmo-7B-D"), gpu, image)
    assert predicted[0] - predicted[1] == pytest.approx(saved_s, rel=1e-3)
    waited = table["first_token_s"] - table["arrival_s"]
    assert waited[0] - waited[2] == pytest.approx(saved_s)


def test_a_router_that_predicts_encodes_less() -> None:
    """Thirty images on four replicas, each of which keeps about eight."""
    images = {"model": "Molmo-7B-D", "distinct": 30, "zipf": 0.5}
    workload = {"preset": "azure-conv", "num_requests": 200, "rate_per_s": 8.0, "images": images}
    scenario = built(MOLMO, workload, count=4)
    encoded = {
        policy: int(play(scenario, f"routing/{policy}")[1]["encoded_tokens"].sum())
        for policy in ("round-robin", "predicted-ttft")
    }
    assert encoded["predicted-ttft"] < 0.8 * encoded["round-robin"]
    assert encoded["predicted-ttft"] >= 972 * 25


def test_a_larger_encoder_cache_encodes_less_and_takes_kv_blocks() -> None:
    images = {"model": "Molmo-7B-D", "distinct": 30, "zipf": 0.0}
    workload = {"preset": "azure-conv", "num_requests": 200, "images": images}
    found = []
    for replica in (MOLMO, MOLMO | {"encoder_cache_tokens": 30 * 972}):
        scenario = built(replica, workload)
        _, table = play(scenario, "routing/round-robin")
        different = len(set(table["image"].tolist()))
        found.append((int(table["encoded_tokens"].sum()) // 972, scenario.replicas[0].kv_blocks))
    assert found[1][0] == different < found[0][0]
    # 16-bit embeddings, as wide as the model, against the KV blocks of 16 tokens
    taken = (found[0][1] - found[1][1]) * 16 * model("Molmo-7B-D").kv_bytes_per_token()
    assert taken == pytest.approx(30 * 972 * 3584 * 2, abs=16 * 57_344)


def test_turns_of_a_session_show_one_image() -> None:
    chat = Workload(
        presets.preset("chat", max_ids_per_request=0), 400, Images("Molmo-7B-D", 0.5, distinct=9)
    )
    stream = chat.sample(np.random.default_rng(3))
    of_session: dict[int, set[int]] = {}
    for session, image in zip(stream.session.tolist(), stream.image.tolist(), strict=True):
        of_session.setdefault(session, set()).add(image)
    assert len(of_session) < 400 and all(len(images) == 1 for images in of_session.values())
    assert {-1, 0} < set(stream.image.tolist()) <= set(range(-1, 9))


def test_popular_images_follow_zipf() -> None:
    images = Images("Molmo-7B-D", 1.0, ((640, 480), (1024, 1024)), distinct=3, zipf=1.0)
    stream = Workload(presets.preset("azure-conv"), 20_000, images).sample(np.random.default_rng(0))
    shares = np.bincount(stream.image, minlength=3) / len(stream)
    np.testing.assert_allclose(shares, np.array([6, 3, 2]) / 11, atol=0.015)
    for image in range(3):  # an image has one size
        assert len(set(stream.image_size[stream.image == image].tolist())) == 1


def test_services_bring_images_of_their_own() -> None:
    source = presets.preset("azure-conv")
    seeing = Workload(source, 30, Images("Molmo-7B-D"))
    stream = Mixture((Workload(source, 20), seeing), (0.0, 0.0)).sample(np.random.default_rng(1))
    assert stream.image is not None and len(stream.image) == 50
    assert (stream.image[stream.service == 0] == -1).all()
    assert sorted(stream.image[stream.service == 1].tolist()) == list(range(30))


def test_prefill_replicas_encode_in_a_joint_world() -> None:
    """Decode replicas get the image in the KV cache; replicas that end forget theirs."""
    workload = {
        **{"preset": "azure-conv", "num_requests": 60, "rate_per_s": 2.0, "max_tokens": 4096},
        "images": {"model": "Molmo-7B-D", "distinct": 5},
    }
    seeing = apart("seeing", model="Molmo-7B-D", workload=workload)
    env = make(small(seeing, service("chat", max=2)))
    play_joint(env, 0, Check())
    table, state = env.results()["requests"], env._world.state
    chats = table["service"] == 1
    assert (table["image"][chats] == -1).all() and not table["encoded_tokens"][chats].any()
    assert set(table["image"][~chats].tolist()) <= set(range(5))
    assert table["encoded_tokens"].sum() >= 972 * len(set(table["image"][~chats].tolist()))
    decodes = env._world.shared["replica_specs"]["does"] == DECODE
    assert decodes.any() and not (state["cached_images"]["image"][0, decodes] >= 0).any()
    assert not state["encoders"]["held"].any() and not state["cached_images"]["users"].any()


@pytest.mark.parametrize(
    ("replica", "images", "problem", "remedy"),
    [
        (
            {
                **{"batching": "static", "chunked_prefill": False, "prefix_caching": False},
                **{"kv_reservation": "contiguous", "max_num_batched_tokens": 32_768},
            },
            {},
            "replicas[0].batching = 'static'",
            'give "continuous"',
        ),
        (
            {"model": "Qwen3.5-35B-A3B", "dp": 2, "ep": 2},
            {"model": "Qwen3.5-35B-A3B"},
            "replicas[0].dp = 2",
            'give dp_ranks = "own"',
        ),
        ({"encoder_cache_tokens": -1}, {}, "encoder_cache_tokens = -1", ">= 0"),
        (
            {"model": "Llama-3-8B", "encoder_cache_tokens": 900},
            None,
            "'Llama-3-8B' sees no images",
            "or leave it out",
        ),
        ({}, {"distinct": -1}, "Images.distinct = -1", "choose 0 to 1e+06"),
        ({}, {"zipf": 11}, "Images.zipf = 11", "choose 0 to 10"),
    ],
)
def test_what_cannot_see_is_refused(replica, images, problem: str, remedy: str) -> None:
    workload = {"preset": "azure-conv", "max_tokens": 8192}
    if images is not None:
        workload["images"] = {"model": "Molmo-7B-D", **images}
    with pytest.raises(ScenarioError) as caught:
        built({**MOLMO, **replica}, workload)
    assert problem in str(caught.value) and remedy in str(caught.value)


def test_the_default_encoder_cache_takes_no_kv_block() -> None:
    scenario = built(MOLMO, {"preset": "azure-conv", "images": {"model": "Molmo-7B-D"}})
    assert scenario.replicas[0].kv_blocks == kv_blocks(scenario.replicas[0].deployment)
    plain = built(MOLMO, {"preset": "azure-conv"})
    assert plain.replicas[0].kv_blocks == scenario.replicas[0].kv_blocks
