"""Files of trained networks.

``policy.safetensors`` holds weights and, in its header, JSON that says which network they are of:
reading one can run no code. A ``model.zip`` of stable-baselines3 holds pickles; it is read only
where that is asked for, and then its weights by torch's restricted unpickler and its settings as
JSON. (That unpickler has run code of a file's maker before: CVE-2025-32434, torch below 2.6.)
"""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model, save_model
from torch import Tensor

from gpuyard.envs.observation import TABLES

from .disk import replacing
from .network import CandidatePolicy

SAFE = ".safetensors"
"""How the name of a file ends that can run no code."""
DAMAGED = (
    *(OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError),
    *(zipfile.BadZipFile, SafetensorError),
)
"""What reading a damaged file raises."""
_ABOUT = "gpuyard"
_SETTINGS = ("width", "decides", "names")
_BOX = re.compile(r"'(\w+)': Box\([^()]*\(([\d, ]+)\), \w+\)")


def save(network: CandidatePolicy, path: Path) -> None:
    """Write weights as safetensors, and what they are of as JSON in the header."""
    about = {key: getattr(network, key) for key in _SETTINGS}
    about |= {
        "network": network.number,
        "columns": {key: network.columns[key] for key in TABLES},
    }
    with replacing(path) as unfinished:
        save_model(network, str(unfinished), {_ABOUT: json.dumps(about)})


def load(path: Path, allow_pickle: bool) -> CandidatePolicy:
    """Return the network of a file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds pickles and that is not allowed, another kind of model, or damage.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such model file")
    if path.suffix != SAFE and not allow_pickle:
        beside = path.with_name(f"policy{SAFE}")
        other = beside if beside.is_file() else f"a policy{SAFE} of gpuyard train"
        raise ValueError(
            f"{path}: holds pickles, and reading those can run code of whoever made it; name "
            f"{other}, or, if you trust it, {path}?allow_pickle=true "
            "(in Python LearnedPolicy.load(path, allow_pickle=True))"
        )
    try:
        return _of_safetensors(path) if path.suffix == SAFE else _of_zip(path)
    except DAMAGED as error:
        problem = str(error) if type(error) is ValueError else "not a whole model"
        raise ValueError(f"{path}: {problem}; name a policy{SAFE} of gpuyard train") from error


def _of_safetensors(path: Path) -> CandidatePolicy:
    with safe_open(str(path), "pt") as file:
        text = (file.metadata() or {}).get(_ABOUT)
    if text is None:
        raise ValueError("not a model of the candidate-scoring network")
    about = json.loads(text)
    network = _network({key: (about["columns"][key],) for key in TABLES}, about)
    _same(network, about["network"])
    load_model(network, path)
    return network


def _of_zip(path: Path) -> CandidatePolicy:
    """Return the network of an SB3 file, from its JSON and its tensors alone."""
    if not zipfile.is_zipfile(path):
        raise ValueError("not a zip file that MaskablePPO.save wrote")
    with zipfile.ZipFile(path) as file:
        data = json.loads(file.read("data"))
        if data["policy_class"]["__module__"] != CandidatePolicy.__module__:
            raise ValueError("not a model of the candidate-scoring network")
        weights = _weights(file)
    shapes = {
        key: tuple(map(int, re.findall(r"\d+", shape)))  # of a space described in words
        for key, shape in _BOX.findall(data["observation_space"]["spaces"])
    }
    network = _network(shapes, data["policy_kwargs"])
    _same(network, int(weights.get("network", 1)))
    network.load_state_dict(weights)
    return network


def _weights(file: zipfile.ZipFile) -> dict[str, Tensor]:
    try:
        content = io.BytesIO(file.read("policy.pth"))
        return torch.load(content, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError("holds something else than weights, which is not loaded") from error


def _network(shapes: dict[str, tuple[int, ...]], settings: dict[str, Any]) -> CandidatePolicy:
    """Return a new network for observations of these shapes."""
    kwargs = {key: settings.get(key) for key in _SETTINGS}
    return CandidatePolicy(
        spaces.Dict({key: spaces.Box(0.0, 1.0, shapes[key]) for key in TABLES}),
        spaces.Discrete(1),  # it scores any number of candidates
        lr_schedule=lambda _: 0.0,
        **{key: value for key, value in kwargs.items() if value is not None},
    )


def _same(network: CandidatePolicy, found: int) -> None:
    if found != network.number:
        raise ValueError(
            f"weights of network {found}, but this version has network {network.number}: "
            "train it again, or use it with the version that made it"
        )
