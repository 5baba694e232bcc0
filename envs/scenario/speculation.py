"""How a replica speculates: the table ``speculation`` of a ``[[replicas]]`` or ``[[deployments]]``.

========================  ==========================================================================
field (default)           what
========================  ==========================================================================
``kind``                  ``draft-model``, ``ngram`` (prompt look-up), ``eagle`` or ``mtp``
``draft_length`` (3)      tokens that each sequence drafts in a step
``acceptance`` (0.7)      rate at which a drafted token is accepted; two: each request has its own,
                          uniform between them
``most_sequences`` (0)    no step drafts in which more sequences decode; 0: all do
``draft_model``           of ``draft-model``: a name or path, as of a replica's ``model``
``draft_tp`` (0)          GPUs it is spread over: 1, or 0 for all of the replica
========================  ==========================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from ..hardware.catalogue import Model
from ..perf.serving.speculation import KINDS, Speculation
from .checks import ScenarioError, check_type, check_values, checked_table, refuse_unknown


@dataclass(frozen=True)
class _Fields:
    kind: str = field(default="", metadata={"choices": KINDS})
    draft_length: int = field(default=3, metadata={"whole": 1})
    most_sequences: int = field(default=0, metadata={"whole": 0})
    draft_model: str = ""
    draft_tp: int = field(default=0, metadata={"whole": 0})


def read_speculation(table: Any, where: str, named: Callable[[str], Model]) -> Speculation:
    """Return how a replica speculates.

    Args:
        table: as given.
        where: it stands, for messages.
        named: returns a model by its name; a ValueError says that there is none.

    Raises:
        ScenarioError: naming the field, value and remedy.
    """
    plain = {item.name for item in fields(_Fields)}
    refuse_unknown(checked_table(table, where), plain | {"acceptance"}, where)
    if "kind" not in table:
        raise ScenarioError(f"{where}.kind is missing; use one of {', '.join(KINDS)}")
    check_values(_Fields, table, where)
    settings = {key: value for key, value in table.items() if key in plain}
    if "acceptance" in table:
        settings["acceptance"] = _rates(table["acceptance"], f"{where}.acceptance")
    try:
        if "draft_model" in table:
            settings["draft_model"] = named(table["draft_model"])
        return Speculation(**settings)
    except ValueError as error:
        names_field = str(error).startswith("speculation.")
        whole = where.removesuffix("speculation") if names_field else f"{where}: "
        raise ScenarioError(f"{whole}{error}") from error


def _rates(value: Any, where: str) -> tuple[float, float]:
    """Return the least and largest rate that one number or two give."""
    pair = value if isinstance(value, list) else [value, value]
    if len(pair) != 2:
        raise ScenarioError(f"{where} = {value!r} must be a number, or the least and the largest")
    for rate in pair:
        check_type(where, rate, 0.7)
    return float(pair[0]), float(pair[1])
