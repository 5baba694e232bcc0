"""Images in the engine: the encoder and its cache against a naive reference, and by hand."""

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
from reference_images import Picture, simulate_images
from test_kv_tiers import SPEC, plain_cost, prompts

from gpuyard.envs.engine.core.records import records
from gpuyard.envs.engine.serving.images import ENCODER_SPEC, IMAGE_COST


def serve(spec, table, stream, costs, step_tokens: int, cache_tokens: int):
    """Serve a stream with images on one replica; ``costs``: tokens, encode_s, prepare_s by size."""
    limits, sizes = records(1, ENCODER_SPEC), records((1, len(costs)), IMAGE_COST)
    limits["step_tokens"], limits["cache_tokens"] = step_tokens, cache_tokens
    for row, cost in enumerate(costs):
        sizes[0, row] = cost
    built = engine_world([spec], [table], stream, encoders=(limits, sizes))
    send_all(built, [0] * len(stream))
    return built.state


def with_images(rng: np.random.Generator, stream, pool: int, costs):
    """Let most requests bring one of a few images, in front of the prompt there is."""
    n = len(stream)
    image = rng.integers(-1, pool, n).astype(np.int32)
    size = (np.maximum(image, 0) % len(costs)).astype(np.int32)
    tokens = np.array([tokens for tokens, _, _ in costs])
    prompt = np.where(image >= 0, np.maximum(stream.prompt_tokens, tokens[size]), 0)
    prompt = np.maximum(prompt, stream.prompt_tokens).astype(np.int32)
    return replace(stream, prompt_tokens=prompt, image=image, image_size=size)


@pytest.mark.parametrize(
    "features", [(), ("whole_prompt",), ("lag", "frontend"), ("windows", "state"), ("threshold",)]
)
def test_images_give_the_same_events(features: tuple[str, ...]) -> None:
    encoded_again = hits = preemptions = refusals = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        spec = random_spec(rng, 0, **{name: True for name in features if name != "threshold"})
        if "threshold" in features:
            spec = replace(spec, threshold=int(rng.integers(8, 64)))
        table = cost_table(rng, True, spec)
        costs = [
            (int(rng.integers(1, 120)), rng.uniform(0, 0.05), float(rng.choice([0.0, 4e-3])))
            for _ in range(3)
        ]
        stream = with_images(rng, random_stream(rng, int(rng.integers(20, 60)), 0), 6, costs)
        largest = max(tokens for tokens, _, _ in costs)
        limits = [largest + int(rng.integers(0, 200)) for _ in range(2)]
        pictures = [
            Picture(int(image), *costs[size]) if image >= 0 else None
            for image, size in zip(stream.image, stream.image_size, strict=True)
        ]
        expected, replica = simulate_images(
            spec, table, pictures, *limits, reference_requests(stream)
        )
        state = serve(spec, table, stream, costs, *limits)
        got, images = state["requests"][0], state["request_images"][0]
        np.testing.assert_array_equal(images["encoded"], replica.encoded)
        np.testing.assert_array_equal(got["preemptions"], expected.preemptions)
        np.testing.assert_allclose(got["first_token_s"], expected.first_token_s, rtol=1e-9)
        np.testing.assert_allclose(got["finish_s"], expected.finish_s, rtol=1e-9)
        cached = state["cached_images"][0, 0]
        assert {int(i) for i in cached["image"] if i >= 0} == set(replica.images.users)
        assert not cached["users"].any() and state["encoders"]["held"][0, 0] == 0
        assert not images["held"].any()
        brought = sum(picture is not None for picture in pictures)
        runs = sum(count > 0 for count in replica.encoded)
        hits += brought - runs
        encoded_again += runs - len(replica.images.users)
        preemptions += sum(expected.preemptions)
        refusals += replica.refusals
    assert min(encoded_again, hits, preemptions, refusals) > 10


def test_an_image_is_encoded_once_by_hand() -> None:
    """Three requests far apart; 40 ms to encode 30 tokens, 5 ms to prepare them.

    The second shows the first one's image, the third another one, which drives it out.
    """
    plain = prompts([0.0, 1.0, 2.0, 3.0])
    plain = replace(plain, prefix_ids=np.arange(len(plain.prefix_ids), dtype=np.int32))
    seen = replace(
        plain,
        image=np.array([7, 7, 8, 7], np.int32),
        image_size=np.zeros(4, np.int32),
    )
    costs = [(30, 0.040, 0.005)]
    state = serve(SPEC, plain_cost(), seen, costs, 30, 59)
    none = serve(SPEC, plain_cost(), plain, costs, 30, 59)
    more_s = state["requests"][0]["first_token_s"] - none["requests"][0]["first_token_s"]
    assert more_s.tolist() == pytest.approx([0.045, 0.005, 0.045, 0.045])
    assert state["request_images"][0]["encoded"].tolist() == [30, 0, 30, 30]
    roomy = serve(SPEC, plain_cost(), seen, costs, 30, 60)
    assert roomy["request_images"][0]["encoded"].tolist() == [30, 0, 30, 0]


def test_a_step_encodes_no_more_than_its_budget_by_hand() -> None:
    """Three at once, two images a step: the third waits though the step has tokens left."""
    seen = prompts([0.0, 0.0, 0.0])
    seen = replace(
        seen,
        prefix_ids=np.arange(len(seen.prefix_ids), dtype=np.int32),
        image=np.arange(3, dtype=np.int32),
        image_size=np.zeros(3, np.int32),
    )
    at_once = serve(SPEC, plain_cost(), seen, [(30, 0.040, 0.0)], 90, 90)["requests"][0]
    assert np.ptp(at_once["first_token_s"]) == 0.0
    in_two = serve(SPEC, plain_cost(), seen, [(30, 0.040, 0.0)], 60, 90)["requests"][0]
    first_s = in_two["first_token_s"]
    assert first_s[0] == first_s[1] < first_s[2]
    assert at_once["first_token_s"][0] - first_s[0] == pytest.approx(0.040 + 0.065)
