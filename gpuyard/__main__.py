"""``python -m gpuyard``: the console command."""

import sys

from gpuyard.cli import main

if __name__ == "__main__":
    sys.exit(main())
