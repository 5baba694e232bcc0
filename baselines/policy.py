"""The one interface of heuristics and learned agents."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.observation import DECISIONS, TABLES, Layout, kind_column
from gpuyard.ids import listed

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario

Observation = dict[str, NDArray]


def _one_or_many(act: Callable[..., NDArray[np.int64]]) -> Callable[..., Any]:
    """Let ``act`` take the observation of a single environment, too."""

    @wraps(act)
    def either(self: Policy, observation: Observation) -> Any:
        if observation["action_mask"].ndim > 1:
            return act(self, observation)
        return act(self, {key: value[None] for key, value in observation.items()})[0]

    return either


class Policy:
    """Chooses one candidate per environment from a batch of observations.

    Observations carry a leading environment axis; see :mod:`gpuyard.envs.observation`. One without
    it, of a single environment, is a batch of one, and its action is a number. Call
    :meth:`reset` once before the first :meth:`act`, then :meth:`attach` where there is an
    environment, and :meth:`restart` whenever some of the environments begin a new episode.

    Attributes:
        decides: kinds of decisions that it takes; by default all.
        needs: the library of the extra ``planners`` that it cannot do without; "": none.
        layout: where the columns of the observations stand; known from :meth:`reset` on.
    """

    decides: frozenset[str] = frozenset(DECISIONS)
    needs: str = ""
    layout: Layout

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let every ``act`` take one observation or many, also of rules from elsewhere."""
        super().__init_subclass__(**kwargs)
        if "act" in vars(cls):
            cls.act = _one_or_many(vars(cls)["act"])  # type: ignore[method-assign]

    def check(self, scenario: Scenario) -> None:
        """Refuse a scenario that asks for decisions which this policy does not take.

        Raises:
            ValueError: naming both, and what they take and ask for; or a library that it needs is
                not installed.
        """
        if self.needs and find_spec(self.needs) is None:
            raise ValueError(
                f"{type(self).__name__} needs {self.needs}, which is not installed: "
                "pip install 'gpuyard[planners]'"
            )
        if not scenario.decisions <= self.decides:
            raise ValueError(
                f"{type(self).__name__} decides {listed(self.decides)}, but scenario "
                f"{scenario.name!r} asks for {listed(scenario.decisions)}; "
                "choose a policy for that, or compose one of several"
            )

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        """Forget everything and prepare for ``num_envs`` environments of ``scenario``.

        Subclasses that override it call it first.

        Args:
            scenario: the world to be decided in; a policy may read what an operator knows of
                it (replicas, their capacities), never the requests to come.
            num_envs: length of the leading axis of the observations that follow.
            seed: of the policy's own random choices.

        Raises:
            ValueError: see :meth:`check`.
        """
        self.check(scenario)
        self.layout = scenario.layout
        # routers act in microseconds: names are looked up once
        self._places = {
            (key, name): at for key in TABLES for at, name in enumerate(self.layout.names(key))
        }
        self._kinds = [kind_column(kind) for kind in scenario.decisions]

    def attach(self, env: Any) -> None:
        """Make use of ``env``, the environment that is played; most policies need none."""

    def restart(self, done: NDArray[np.bool_]) -> None:
        """Forget what belongs to the environments whose episode has just ended.

        Args:
            done: shape (num_envs,).
        """

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """Return one feasible candidate per environment, shape (n,).

        Where the decision that is due is not for this policy (see :meth:`asked`), what it returns
        means nothing, and what it remembers of that environment must stay as it is.
        """
        raise NotImplementedError

    def lessons(self, observation: Observation, env: Any) -> NDArray[np.bool_]:
        """Return the candidates that a learner should take after this policy, bool (n, C).

        None where it cannot say. By default the candidate that it would take itself.

        Args:
            observation: of ``env``.
            env: the vector environment.
        """
        wanted = np.zeros(observation["action_mask"].shape, np.bool_)
        wanted[np.arange(len(wanted)), self.act(observation)] = True
        return wanted

    def asked(self, observation: Observation) -> NDArray[np.bool_]:
        """Return in which environments a decision is due that is for this policy, bool (n,)."""
        due = self.column(observation, "cluster", self._kinds[0]) > 0
        for kind in self._kinds[1:]:
            due |= self.column(observation, "cluster", kind) > 0
        return due

    def column(self, observation: Observation, key: str, name: str) -> NDArray[np.float32]:
        """Return a column as it stands, squashed to [0, 1]: enough to compare by, and fastest.

        Args:
            observation: a batch.
            key: ``"cluster"``, ``"queue"`` or ``"candidates"``.
            name: of the column, with its block: ``"route.waiting"``.

        Returns:
            A view without the last axis of ``observation[key]``, (n, C) for ``"candidates"``.
        """
        at = self._places.get((key, name))
        if at is None:  # a name without its block, or a wrong one
            at = self.layout.index(key, name)
        return observation[key][..., at]

    def read(self, observation: Observation, key: str, name: str) -> NDArray[np.float64]:
        """Return a column in its unit; arguments and shape as of :meth:`column`."""
        return self.layout.read(observation, key, name)


class ScorePolicy(Policy):
    """A policy that scores candidates; the feasible one with the highest score is taken.

    Ties go to the lowest index.
    """

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return finite scores of shape (n, C), higher is better."""
        raise NotImplementedError

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """Return the feasible candidate with the highest score, shape (n,)."""
        scores = np.where(observation["action_mask"], self.score(observation), -np.inf)
        return scores.argmax(axis=-1)


Factory = Callable[..., Policy]
"""What makes a policy: its class, or that with some options given."""
