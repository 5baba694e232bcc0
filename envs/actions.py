"""What an action may be: one rule for the single and the vector environment.

Actions are whole numbers, Python's or NumPy's, also as arrays without an axis. Everything else is
refused before anything runs: booleans, text, floats (also 1.0: who sends floats has mixed up
actions and scores) and numbers beyond 64 bits. A whole number that is no candidate is another
matter: the engine counts it as an infeasible action.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.error import InvalidAction
from numpy.typing import NDArray

LEAST, MOST = -(2**63), 2**63 - 1  # of 64 bits


def whole(action: Any) -> int:
    """Return an action as an int.

    Raises:
        InvalidAction: naming the action and what is allowed.
    """
    if isinstance(action, np.ndarray) and action.ndim == 0:
        action = action[()]
    is_whole = isinstance(action, (int, np.integer)) and not isinstance(action, bool)
    if not is_whole or not LEAST <= action <= MOST:
        raise InvalidAction(
            f"action = {action!r} ({type(action).__name__}) must be a whole number of at most 64 "
            "bits, an int or a NumPy integer: the index of a candidate"
        )
    return int(action)


def wholes(actions: Any, count: int) -> NDArray[np.int64]:
    """Return one action for each of ``count`` environments, int64 (count,).

    Raises:
        InvalidAction: naming the actions, or the one that is wrong, and what is allowed.
    """
    if not isinstance(actions, np.ndarray):
        actions = _listed(actions)
    if actions.shape != (count,):
        raise InvalidAction(
            f"actions have shape {actions.shape}, must have ({count},): one per environment"
        )
    if actions.dtype.kind not in "iu" or (actions.dtype == np.uint64 and actions.max() > MOST):
        return np.array([whole(action) for action in actions.tolist()], np.int64)
    return actions.astype(np.int64, copy=False)


def _listed(actions: Any) -> NDArray[np.int64]:
    try:
        items = list(actions)
    except TypeError:
        raise InvalidAction(
            f"actions = {actions!r} must be an array of whole numbers, one per environment"
        ) from None
    return np.array([whole(action) for action in items], np.int64)
