"""Requests with images: how many, how long their prompts become, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpuyard.envs.scenario import ScenarioError, from_dict
from gpuyard.envs.scenario.fit import longest_request
from gpuyard.envs.workload.requests import presets
from gpuyard.envs.workload.requests.images import Images
from gpuyard.envs.workload.requests.source import Workload

IMAGES = Images("Molmo-7B-D", 0.25, ((640, 480), (1920, 1080)))  # 740 and 1,196 tokens
SEES = {"gpu": "H100-SXM", "model": "Molmo-7B-D"}


def scenario(images: Any, model: str = "Molmo-7B-D", preset: str = "azure-conv") -> Any:
    return from_dict(
        {
            "replicas": [SEES | {"model": model}],
            "workload": {"preset": preset, "num_requests": 4000, "images": images},
        }
    )


def test_images_lengthen_the_prompts_of_their_share() -> None:
    plain = Workload(presets.preset("azure-conv"), 4000)
    text, seen = (
        Workload(plain.source, 4000, images).sample(np.random.default_rng(7))
        for images in (None, IMAGES)
    )
    more = seen.prompt_tokens - text.prompt_tokens
    assert set(more.tolist()) == {0, 740, 1196}
    assert np.mean(more > 0) == pytest.approx(0.25, abs=0.02)
    assert np.mean(more[more > 0] == 740) == pytest.approx(0.5, abs=0.05)
    for name in ("arrival_s", "output_tokens", "max_tokens"):
        assert np.array_equal(getattr(seen, name), getattr(text, name))
    # 0.25 of 968
    added = Workload(plain.source, 10, IMAGES).mean_lengths()[0] - plain.mean_lengths()[0]
    assert added == pytest.approx(242)


def test_a_scenario_has_images() -> None:
    found = scenario({"model": "Molmo-7B-D", "share": 0.25, "sizes": [[640, 480], [1920, 1080]]})
    assert found.workload.images == IMAGES
    assert longest_request(found.workload) == found.workload.source.max_tokens + 1196
    # longer prompts, fewer tokens a second
    none = from_dict({"replicas": [SEES], "workload": {"preset": "azure-conv"}})
    assert found.replicas[0].capacity < none.replicas[0].capacity
    # Molmo's two sizes have one encoder
    other = scenario({"model": "Molmo-72B"})
    assert other.workload.images.tokens == (972,)


@pytest.mark.parametrize(
    ("images", "model", "preset", "message"),
    [
        (
            {"model": "Molmo-7B-D"},
            "Llama-3-8B",
            "azure-conv",
            r"replicas\[0\].model = 'Llama-3-8B' does not see images as .* serve one of Molmo",
        ),
        ({"model": "FastVLM-7B"}, "Molmo-7B-D", "azure-conv", "serve one of FastVLM-0.5B"),
        ({"model": "Llama-3-8B"}, "Llama-3-8B", "azure-conv", "Images.model: .* sees no images"),
        ({}, "Molmo-7B-D", "azure-conv", "workload.images.model is missing"),
        ({"model": 3}, "Molmo-7B-D", "azure-conv", "workload.images.model = 3 must be text"),
        ([], "Molmo-7B-D", "azure-conv", r"workload.images = \[\] must be a table"),
        ({"model": "Molmo-7B-D", "of": 1}, "Molmo-7B-D", "azure-conv", "images.of is unknown"),
        (
            {"model": "Molmo-7B-D", "share": 2},
            "Molmo-7B-D",
            "azure-conv",
            "Images.share = 2 is out of range; choose 0 to 1",
        ),
        (
            {"model": "Molmo-7B-D", "sizes": [[640]]},
            "Molmo-7B-D",
            "azure-conv",
            "give pairs of width and height",
        ),
        ({"model": "Molmo-7B-D", "sizes": 7}, "Molmo-7B-D", "azure-conv", "give pairs of width"),
        ({"model": "Molmo-7B-D"}, "Molmo-7B-D", "chat", "needs requests that share no prefixes"),
    ],
)
def test_what_does_not_go_together_is_refused(
    images: Any, model: str, preset: str, message: str
) -> None:
    with pytest.raises(ScenarioError, match=message):
        scenario(images, model, preset)
