"""ServeGen client statistics: requests are generated client by client, not from a pooled stream.

Source: github.com/alibaba/ServeGen (Xiang et al., arXiv 2505.09999, Apache-2.0), in the form of one
``<model>_client_windows.csv`` (t, client, rate, cv, pattern, shape, scale: one row per client and
window of 600 s) beside one ``<model>_length_pdfs*.jsonl`` (client, t of a 6 h window, and per field
``[[values], [probabilities]]``). Prompt and output are drawn independently.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...trace_file import MOST_S, Table, TraceError, read_csv, read_jsonl
from ..assemble import assemble
from ..stream import RequestStream

WINDOW_S = 600.0
PDF_WINDOW_S = 21_600.0
_COLUMNS = ("t", "client", "rate", "pattern", "shape")
_PROMPT_FIELDS = ("input_tokens", "text_tokens")
_MOST_RATE, _MOST_SHAPE = 1e5, 1e6  # requests/s of one client; of its gaps
_MOST_TOKENS, _MOST_MEDIA = 2**30, 1000  # of a request: tokens of each kind, images and the like
_MEDIA = ("image", "audio", "video")
_OPTIONAL = (*_PROMPT_FIELDS, *(f"{m}_tokens" for m in _MEDIA), *(f"{m}_count" for m in _MEDIA))


def detect(names: set[str]) -> bool:
    """Tell whether these column names are of this format."""
    return names >= set(_COLUMNS)


def read(
    path: Path,
    *,
    lengths: str | Path | None = None,
    start_s: float = 0.0,
    duration_s: float = WINDOW_S,
    seed: int = 0,
) -> RequestStream:
    """Generate the requests of ``[start_s, start_s + duration_s)``; ``start_s`` becomes time 0.

    Args:
        path: the file of client windows.
        lengths: the file of length distributions; by default the one beside ``path``.
        start_s: seconds since midnight of the first day.
        duration_s: seconds; whole windows are generated and cut.
        seed: of the random numbers.

    Raises:
        TraceError: a file cannot be read, or no client is active in that time.
    """
    rng = np.random.default_rng(seed)
    windows = read_csv(path)
    arrival_s, client, begin_s = _arrivals(windows, start_s, duration_s, rng)
    if not len(arrival_s):
        last = windows.numbers("t").max() + WINDOW_S
        raise TraceError(
            f"{path}: no request between {start_s:g} s and {start_s + duration_s:g} s; choose "
            f"start_s below {last:g} s or a longer duration_s"
        )
    pdfs = read_jsonl(_beside(path, lengths), ("client", "t", "output_tokens"), _OPTIONAL)
    prompt, output = _lengths(pdfs, client, begin_s, rng)
    table = Table(
        path,
        {"t": arrival_s.tolist(), "prompt": prompt.tolist(), "output": output.tolist()},
        np.arange(len(arrival_s)),
    )
    return assemble(table, "t", "prompt", "output", sort=True)


def _beside(path: Path, lengths: str | Path | None) -> Path:
    """Return the file of length distributions that belongs to ``path``."""
    if lengths is not None:
        return Path(lengths)
    model = path.name.split("_client_windows")[0]
    found = sorted(path.parent.glob(f"{model}_length_pdfs*.jsonl*"))
    if not found:
        raise TraceError(
            f"{path}: no {model}_length_pdfs*.jsonl beside it; put it there or pass lengths="
        )
    return found[0]


def _arrivals(
    windows: Table, start_s: float, duration_s: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Return arrival times (N,) from ``start_s``, clients (N,) and window starts (N,)."""
    t, rate, shape = (windows.numbers(name) for name in ("t", "rate", "shape"))
    client, pattern = windows.numbers("client").astype(np.int64), windows.column("pattern")
    for name, values, most in (("rate", rate, _MOST_RATE), ("shape", shape, _MOST_SHAPE)):
        outside = (values < 1e-6) | (values > most)
        windows.refuse(name, outside, "is out of range", f"write 1e-06 to {most:g}, or no line")
    windows.refuse("t", np.abs(t) > MOST_S, "is no time", f"write at most {MOST_S:g} s")
    times, clients, begins = [], [], []
    for row in np.flatnonzero((t + WINDOW_S > start_s) & (t < start_s + duration_s)).tolist():
        arrival = (
            t[row] + _renewal(windows, row, pattern[row], shape[row], rate[row], rng) - start_s
        )
        arrival = arrival[(arrival >= 0) & (arrival < duration_s)]
        times.append(arrival)
        clients.append(np.full(len(arrival), client[row]))
        begins.append(np.full(len(arrival), t[row]))
    if not times:
        return np.zeros(0), np.zeros(0, np.int64), np.zeros(0)
    return np.concatenate(times), np.concatenate(clients), np.concatenate(begins)


def _renewal(
    windows: Table, row: int, pattern: str, shape: float, rate: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return one client's arrivals in one window: gaps of its family, rescaled to the window."""
    count = int(rate * WINDOW_S + rng.random())
    if pattern == "Gamma":
        gaps = rng.gamma(shape, size=count + 1)
    elif pattern == "Weibull":
        gaps = rng.weibull(shape, size=count + 1)
    else:
        windows.fail(row, "pattern", pattern, "is no known family", "write Gamma or Weibull")
    ends = np.cumsum(gaps)
    return WINDOW_S * ends[:-1] / ends[-1]


def _lengths(
    pdfs: Table, client: NDArray[np.int64], begin_s: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw prompt and output tokens (N,) from each client's distributions of its 6 h window.

    A client without distributions borrows those of another one, drawn by request volume; one
    without any for this time uses its nearest time.
    """
    known: dict[int, list[tuple[float, int]]] = {}
    for row, (name, t) in enumerate(zip(pdfs.numbers("client"), pdfs.numbers("t"), strict=True)):
        known.setdefault(int(name), []).append((t, row))
    names = np.array(sorted(known))
    volume = np.array([np.count_nonzero(client == name) for name in names]) + 1e-9
    prompt, output = np.ones(len(client)), np.ones(len(client))
    groups, member = np.unique(
        np.stack([client, begin_s // PDF_WINDOW_S]), axis=1, return_inverse=True
    )
    for group, (name, block) in enumerate(groups.T):
        here = np.flatnonzero(member.ravel() == group)
        owner = int(name) if name in known else int(rng.choice(names, p=volume / volume.sum()))
        row = min(known[owner], key=lambda entry: abs(entry[0] - block * PDF_WINDOW_S))[1]
        prompt[here] = np.maximum(_prompt(pdfs, row, len(here), rng), 1)
        output[here] = np.maximum(_draw(pdfs, row, "output_tokens", len(here), rng), 1)
    return prompt, output


def _prompt(pdfs: Table, row: int, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw prompt tokens (n,): the text, and the tokens of each image, audio or video."""
    field = next((name for name in _PROMPT_FIELDS if pdfs.columns[name][row] is not None), None)
    if field is None:
        pdfs.fail(row, _PROMPT_FIELDS[0], None, "is missing", "add the prompt's distribution")
    tokens = _draw(pdfs, row, field, n, rng)
    for medium in _MEDIA:
        if pdfs.columns[f"{medium}_count"][row] is None:
            continue
        count = _draw(pdfs, row, f"{medium}_count", n, rng).astype(np.int64)
        if count.max() > _MOST_MEDIA:
            problem = f"counts more than {_MOST_MEDIA}"
            pdfs.fail(row, f"{medium}_count", int(count.max()), problem, "correct the values")
        each = _draw(pdfs, row, f"{medium}_tokens", int(count.sum()), rng)
        tokens += np.bincount(np.repeat(np.arange(n), count), each, minlength=n)
    return tokens


def _draw(
    pdfs: Table, row: int, field: str, n: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw n values of one ``[[values], [probabilities]]``; probabilities are normalised."""
    try:
        values, weights = (np.array(part, np.float64) for part in pdfs.columns[field][row])
        if not (values.min() >= 0 and values.max() <= _MOST_TOKENS):
            raise ValueError(f"values lie outside [0, {_MOST_TOKENS:g}]")
        return rng.choice(values, size=n, p=weights / weights.sum())
    except (ValueError, TypeError) as error:
        pdf = str(pdfs.columns[field][row])[:60]
        pdfs.fail(
            row, field, pdf, f"is no distribution ({error})", "write [[values],[probabilities]]"
        )
