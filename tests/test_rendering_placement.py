"""Placement worlds as text and picture: views made by hand, and every named cluster."""

import builtins
from dataclasses import replace

import numpy as np
import pytest
from views import make_view

from gpuyard.envs.hardware.clusters import BLUEPRINTS, cluster
from gpuyard.envs.rendering import cluster as rendering


def small():
    """Two leafs of two nodes x 2 GPUs with 2 uplinks each; the last node is down."""
    view = make_view(
        pending=[{"id": 7, "gpus": 4, "arrival_s": 40.0, "estimate_s": 600.0}],
        running=[{"id": 0, "on": [0, 1]}, {"id": 1, "on": [2, 4]}],
        nodes=4, gpus_per_node=2, nodes_per_leaf=2, uplinks=2, spines=2, down=(3,), now_s=100.0,
    )  # fmt: skip
    load = np.zeros(len(view.link_load))
    load[8 + 0] = 0.5  # behind 4 nodes up and 4 down: leaf switch 0, uplink 0, up
    load[8 + 4 + 3] = 1.0  # behind 4 links up: leaf switch 1, uplink 1, down
    return replace(view, link_load=load)


def test_text_by_hand():
    assert rendering.as_text(small(), "world").splitlines() == [
        "world  t = 100 s  GPUs 4/8 busy, 2 down; gangs 2 running, 1 pending (4 GPUs)",
        "leaf 0   H100-SXM  aa b.  links  12% mean  50% max",
        "leaf 1   H100-SXM  b. xx  links  25% mean 100% max",
        "pending 7: 4 GPUs, waits 60 s, believed to run 600 s",
    ]


def test_a_large_leaf_is_a_bar_and_long_lists_are_cut():
    view = make_view(
        pending=[{"id": i, "gpus": 8} for i in range(10)],
        running=[{"id": 99, "on": range(100)}],
        nodes=100, gpus_per_node=8, nodes_per_leaf=25,
    )  # fmt: skip
    lines = rendering.as_text(view, "world", width=10).splitlines()
    assert "[#####.....]" in lines[1] and "[..........]" in lines[2]
    assert lines[-1] == "... 2 more pending"
    many = make_view(nodes=40, gpus_per_node=1, nodes_per_leaf=1)
    assert rendering.as_text(many, "world").splitlines()[-1] == "... 8 more leafs"


@pytest.mark.parametrize("name", list(BLUEPRINTS))
def test_every_named_cluster_can_be_shown(name):
    pytest.importorskip("matplotlib")
    view = make_view(running=[{"id": 0, "on": [0]}], cluster=cluster(name))
    fabric = view.cluster.fabric
    assert rendering.uplink_loads(view).shape == (2, fabric.num_switches, fabric.uplinks)
    assert rendering.core_loads(view).shape == (2, *fabric.core_bytes_per_s.shape)
    assert (
        sum(len(load) for load in rendering.leaf_loads(view)) == 2 * fabric.uplink_bytes_per_s.size
    )
    assert rendering.as_text(view, name).startswith(f"{name}  t = 0 s  GPUs 1/")
    image = rendering.as_image(view, name)
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    assert image.std() > 1.0


def test_the_picture_shows_gangs_and_loads():
    pytest.importorskip("matplotlib")
    view = small()
    picture = rendering.as_image(view, "world")
    idle = rendering.as_image(replace(view, link_load=np.zeros(len(view.link_load))), "world")
    other = replace(view, gpu_job=np.where(view.gpu_job == 1, 0, view.gpu_job))
    assert (picture != idle).any()
    assert (picture != rendering.as_image(other, "world")).any()


def test_without_matplotlib_the_remedy_is_named(monkeypatch):
    load = builtins.__import__

    def refuse(name, *rest):
        if name.startswith("matplotlib"):
            raise ImportError("no module named matplotlib")
        return load(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"install gpuyard\[plot\]"):
        rendering.as_image(small(), "world")
