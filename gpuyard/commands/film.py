"""An episode as a moving picture: what ``env.render()`` shows, at even steps of simulated time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from gpuyard.ids import id_for

if TYPE_CHECKING:
    from gpuyard.baselines import Policy
    from gpuyard.envs.scenario import Scenario

FRAMES, FRAMES_PER_S = 60, 8


def require(suffix: str) -> None:
    """Make sure that a film of a suffix can be written.

    Raises:
        ImportError: what it needs is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
        import PIL  # noqa: F401
    except ImportError as error:
        raise ImportError("a moving picture needs matplotlib: install gpuyard[plot]") from error
    if suffix == ".mp4":
        try:
            import imageio_ffmpeg  # noqa: F401
        except ImportError as error:
            raise ImportError("an MP4 needs ffmpeg: install gpuyard[video]") from error


def save(scenario: Scenario, policy: Policy, seed: int, path: Path) -> float:
    """Play an episode, write it as GIF or MP4, and return its length in simulated seconds.

    It is played twice: only its end says at which times the pictures are, and to play is cheap
    beside drawing more pictures than are shown.

    Args:
        scenario: the world.
        policy: reset and attached here, its own randomness seeded with 0 as in a rollout.
        seed: of the episode.
        path: ends with .gif or .mp4; see :func:`require`.
    """
    *_, end_s = _times(scenario, policy, seed)
    frames = _even(list(_pictures(scenario, policy, seed, end_s)))
    (_write_gif if path.suffix == ".gif" else _write_mp4)(frames, path)
    return end_s


def _times(scenario: Scenario, policy: Policy, seed: int) -> Iterator[float]:
    """Play, and yield the time of every decision and of the end."""
    for env, _ in _steps(scenario, policy, seed):
        yield float(env.unwrapped.scene().now_s)


def _pictures(
    scenario: Scenario, policy: Policy, seed: int, end_s: float
) -> Iterator[NDArray[np.uint8]]:
    """Play, and yield the picture of the first decision after each of the frames' times."""
    shown = 0
    for env, done in _steps(scenario, policy, seed):
        now_s = env.unwrapped.scene().now_s
        if done or now_s >= end_s * shown / FRAMES:
            shown = int(now_s / end_s * FRAMES) + 1 if end_s else FRAMES
            yield env.render()


def _steps(scenario: Scenario, policy: Policy, seed: int) -> Iterator[tuple[Any, bool]]:
    """Play an episode, and yield the environment before each decision, and at the end."""
    env: Any = gym.make(id_for(scenario), scenario=scenario, render_mode="rgb_array")
    policy.reset(scenario, 1, seed=0)
    policy.attach(env)
    observation, _ = env.reset(seed=seed)
    done = False
    while not done:
        yield env, False
        observation, _, terminated, truncated, _ = env.step(policy.act(observation))
        done = terminated or truncated
    yield env, True
    env.close()


def _even(frames: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Return frames of one even size, the others' with white beside: encoders take no odd ones.

    Pictures grow with the replicas that there are.
    """
    height, width = (-(-max(frame.shape[axis] for frame in frames) // 2) * 2 for axis in (0, 1))
    even = np.full((len(frames), height, width, 3), 255, np.uint8)
    for blank, frame in zip(even, frames, strict=True):
        blank[: frame.shape[0], : frame.shape[1]] = frame
    return list(even)


def _write_gif(frames: list[NDArray[np.uint8]], path: Path) -> None:
    from PIL import Image

    first, *rest = (Image.fromarray(frame).quantize(64) for frame in frames)
    length_ms = [1000 // FRAMES_PER_S] * len(rest) + [2000]
    first.save(path, save_all=True, append_images=rest, duration=length_ms, loop=0, optimize=True)


def _write_mp4(frames: list[NDArray[np.uint8]], path: Path) -> None:
    import imageio_ffmpeg

    height, width = frames[0].shape[:2]
    writer = imageio_ffmpeg.write_frames(str(path), (width, height), fps=FRAMES_PER_S)
    writer.send(None)
    for frame in frames:
        writer.send(frame)
    writer.close()
