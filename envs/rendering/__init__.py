"""Pictures of a world, as text and as images."""
