"""The world and its Gymnasium face."""
