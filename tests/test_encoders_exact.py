"""Encode replicas in the engine: against a naive reference, by hand, and what always holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from engine_worlds import (
    cost_table,
    engine_world,
    random_spec,
    random_stream,
    reference_requests,
    send_all,
)
from reference_encoders import Pool, simulate_apart
from reference_images import Picture
from test_images_exact import with_images
from test_kv_tiers import SPEC, plain_cost, prompts

from gpuyard.envs.engine.core.records import records, records_of
from gpuyard.envs.engine.serving.encode_pool import ENCODE_POOL
from gpuyard.envs.engine.serving.images import IMAGE_COST


def serve(specs, tables, stream, costs, pool: dict[str, float], assignment):
    """Serve a stream with images; ``costs``: tokens, encode_s, prepare_s by size."""
    sizes = records((1, len(costs)), IMAGE_COST)
    for row, cost in enumerate(costs):
        sizes[0, row] = cost
    apart = records_of(ENCODE_POOL, **pool), sizes
    built = engine_world(specs, tables, stream, encode_pool=apart)
    send_all(built, assignment)
    return built.state


@pytest.mark.parametrize(
    "features", [(), ("whole_prompt",), ("lag", "frontend"), ("windows", "state"), ("threshold",)]
)
def test_encode_replicas_give_the_same_events(features: tuple[str, ...]) -> None:
    overtaken = hits = preemptions = waited = again = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        num, made = int(rng.integers(1, 4)), []
        for _ in range(num):
            spec = random_spec(rng, 0, **{name: True for name in features if name != "threshold"})
            limit = int(rng.integers(8, 64)) if "threshold" in features else 0
            made.append(replace(spec, threshold=limit))
        tables = [cost_table(rng, True, spec) for spec in made]
        costs = [
            (int(rng.integers(1, 120)), rng.uniform(0, 0.2), float(rng.choice([0.0, 0.03])))
            for _ in range(3)
        ]
        stream = with_images(rng, random_stream(rng, int(rng.integers(20, 60)), 0), 9, costs)
        largest = max(tokens for tokens, _, _ in costs)
        pool = {
            "replicas": int(rng.integers(1, 4)),
            "cache_tokens": int(rng.choice([0, largest, 2 * largest])),
            "start_s": float(rng.choice([0.0, 1e-3])),
            "token_s": rng.uniform(0, 1e-4),
        }
        pictures = [
            Picture(int(image), *costs[size]) if image >= 0 else None
            for image, size in zip(stream.image, stream.image_size, strict=True)
        ]
        assignment = rng.integers(0, num, len(stream)).tolist()
        naive = Pool(pool["replicas"], pool["cache_tokens"])
        expected, here_s = simulate_apart(
            *(naive, pictures, (pool["start_s"], pool["token_s"]), made, tables),
            *(reference_requests(stream), assignment),
        )
        state = serve(made, tables, stream, costs, pool, assignment)
        got, encodings = state["requests"][0], state["encodings"][0]
        brings = stream.image >= 0
        went = [naive.went.get(index, -1) for index in range(len(stream))]
        np.testing.assert_array_equal(encodings["replica"], went)
        np.testing.assert_allclose(encodings["here_s"][brings], np.array(here_s)[brings], 1e-9)
        encoded = state["request_images"][0]["encoded"]
        assert set(np.flatnonzero(encoded)) == naive.encoded
        np.testing.assert_array_equal(got["preemptions"], expected.preemptions)
        np.testing.assert_allclose(got["first_token_s"], expected.first_token_s, rtol=1e-9)
        np.testing.assert_allclose(got["finish_s"], expected.finish_s, rtol=1e-9)
        images = [encoder.images for encoder in naive.encoders]
        assert state["encode_queues"][0]["images"].tolist() == images
        for p, encoder in enumerate(naive.encoders):
            kept = state["cached_images"][0, p]["image"]
            assert {int(image) for image in kept if image >= 0} == set(encoder.kept)
        overtaken += int((np.diff(here_s) < 0).sum())
        hits += int(brings.sum()) - len(naive.encoded)
        again += len(naive.encoded) - len(set(stream.image[brings].tolist()))
        preemptions += sum(expected.preemptions)
        done_s = encodings["encoded_s"] - stream.arrival_s
        alone_s = [sum(costs[size][1:]) for size in stream.image_size]
        waited += int((done_s[brings] > np.array(alone_s)[brings] + 1e-9).sum())
    assert min(overtaken, hits, preemptions, waited, again) > 10


def test_the_way_of_an_image_by_hand() -> None:
    """Three images at once on two encode replicas; a text that comes later goes first.

    5 ms to prepare, 40 ms to encode 30 tokens, 1 ms and 30 x 0.1 ms to send them: 49 ms. The third
    one's CPU is free after 5 ms, its GPU after 45 ms: 89 ms.
    """
    plain = prompts([0.0, 0.0, 0.0, 0.010])
    plain = replace(plain, prefix_ids=np.arange(len(plain.prefix_ids), dtype=np.int32))
    image = np.array([0, 1, 2, -1], np.int32)
    seen = replace(plain, image=image, image_size=np.zeros(4, np.int32))
    pool = {"replicas": 2, "cache_tokens": 0, "start_s": 1e-3, "token_s": 1e-4}
    state = serve([SPEC], [plain_cost()], seen, [(30, 0.040, 0.005)], pool, [0] * 4)
    encodings = state["encodings"][0]
    assert encodings["replica"].tolist() == [0, 1, 0, -1]
    assert encodings["here_s"][:3].tolist() == pytest.approx([0.049, 0.049, 0.089])
    first_s = state["requests"][0]["first_token_s"]
    assert first_s[3] < first_s[0] == first_s[1] < first_s[2]
    alone = serve([SPEC], [plain_cost()], prompts([0.010]), [(30, 0.040, 0.005)], pool, [0])
    assert first_s[3] == pytest.approx(alone["requests"][0]["first_token_s"][0])
    queues = state["encode_queues"][0]
    assert queues["images"].tolist() == [2, 1] and queues["busy_s"].tolist() == [0.08, 0.04]
