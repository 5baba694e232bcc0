"""Train an agent and compare it with all baselines: ``python train.py --help``."""

import sys

from gpuyard.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
