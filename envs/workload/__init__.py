"""What arrives: requests and training jobs, generated or read from public traces."""
