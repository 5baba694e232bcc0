"""Training jobs: readers of job lists, fitted generators, windows."""
