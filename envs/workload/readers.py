"""The old name of :mod:`.requests.readers`; it goes with the next release."""

from .requests.readers import FORMATS, TraceError, TraceWarning, detect, read

__all__ = ["FORMATS", "TraceError", "TraceWarning", "detect", "read"]
