"""The old name of :mod:`.requests.transform`; it goes with the next release."""

from .requests.transform import scale_rate, window

__all__ = ["scale_rate", "window"]
