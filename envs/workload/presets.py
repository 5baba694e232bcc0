"""The old name of :mod:`.requests.presets`; it goes with the next release."""

from .requests.presets import PRESETS, preset

__all__ = ["PRESETS", "preset"]
