"""Compare policies on scenarios or a trace: ``python evaluate.py --help``."""

import sys

from gpuyard.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
