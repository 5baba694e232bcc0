"""Options inside names: ``routing/llm-d?weights=prefix:4,queue:3&precise=true``.

Options are written as in the query of a URL. What a value may be follows from the type hints of the
policy's class: a number, ``true`` or ``false``, one of the words of a ``Literal``, a text, numbers
with commas between them for a sequence, ``name:number`` with commas for a mapping.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Values = dict[str, object]


def split(name: str) -> tuple[str, dict[str, str]]:
    """Return a name without its options, and the options as text.

    Raises:
        ValueError: something after the question mark is not ``option=value``, or comes twice.
    """
    plain, mark, query = name.partition("?")
    texts: dict[str, str] = {}
    for part in query.split("&") if mark else ():
        option, equals, text = part.partition("=")
        if not equals or not option:
            raise ValueError(f"{name!r}: {part!r} must be option=value, several joined by '&'")
        if option in texts:
            raise ValueError(f"{name!r}: option {option!r} is given twice")
        texts[option] = text
    return plain, texts


def accepted(factory: Callable[..., object]) -> list[str]:
    """Return the names of the options that a policy's class, or a partial of it, takes."""
    return list(inspect.signature(factory).parameters)


def check(owner: str, factory: Callable[..., object], given: Mapping[str, object]) -> None:
    """Refuse options that the policy does not have.

    Raises:
        ValueError: naming the policy, the option and those accepted.
    """
    known = accepted(factory)
    for option in given:
        if option not in known:
            raise ValueError(
                f"baseline {owner!r} has no option {option!r}; "
                f"it accepts {', '.join(known) if known else 'none'}"
            )


def needed(factory: Callable[..., object]) -> list[str]:
    """Return the names of the options without a default, such as the weights of a weighted sum."""
    return [
        parameter.name
        for parameter in inspect.signature(factory).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]


def check_needed(owner: str, factory: Callable[..., object], given: Mapping[str, object]) -> None:
    """Refuse a policy that lacks an option without a default.

    Raises:
        ValueError: naming the policy and these options.
    """
    lacking = [option for option in needed(factory) if option not in given]
    if lacking:
        written = "&".join(f"{option}=..." for option in lacking)
        raise ValueError(
            f"baseline {owner!r} needs {' and '.join(lacking)}: write {owner}?{written}; "
            f"gpuyard show baseline {owner} says what may stand there"
        )


def parse(owner: str, factory: Callable[..., object], texts: Mapping[str, str]) -> Values:
    """Return the values that texts stand for, by the type hints of ``factory``.

    Raises:
        ValueError: there is no such option, or the text is no such value; the message names the
            policy, the option, the text and what is accepted.
    """
    check(owner, factory, texts)
    hints = hints_of(factory)
    values: Values = {}
    for option, text in texts.items():
        try:
            values[option] = _value(text, hints.get(option, str))
        except ValueError as error:
            message = f"baseline {owner!r}: {option} = {text!r} must be {error}"
            raise ValueError(message) from None
    return values


def hints_of(factory: Callable[..., object]) -> dict[str, Any]:
    """Return the type hints of the options of a policy's class, or of a partial of it."""
    made: Any = factory.func if isinstance(factory, partial) else factory
    return get_type_hints(made.__init__ if inspect.isclass(made) else made)


def _value(text: str, hint: Any) -> object:
    """Return the value of ``hint``'s type; a ValueError says what was expected."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if text == "none" and type(None) in arguments:
            return None
        (hint,) = (argument for argument in arguments if argument is not type(None))
        return _value(text, hint)
    if origin is Literal:
        if text not in arguments:
            raise ValueError(" or ".join(map(repr, arguments)))
        return text
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _pairs(text)
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return tuple(_value(part, arguments[0]) for part in text.split(","))
    if hint is bool:
        if text not in ("true", "false"):
            raise ValueError("true or false")
        return text == "true"
    if hint in (int, float):
        return _number(text, hint)
    return text


def _number(text: str, kind: type[int] | type[float]) -> int | float:
    try:
        return kind(text)
    except ValueError:
        raise ValueError("a whole number" if kind is int else "a number") from None


def _pairs(text: str) -> dict[str, float]:
    pairs: dict[str, float] = {}
    for part in text.split(","):
        name, colon, number = part.rpartition(":")
        try:
            pairs[name] = float(number)
        except ValueError:
            colon = ""
        if not colon:
            raise ValueError("name:number, several joined by commas")
    return pairs
