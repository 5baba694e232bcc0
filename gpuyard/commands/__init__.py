"""The subcommands of ``gpuyard``, one module each; :mod:`gpuyard.cli` has their table."""
