"""Jobs: streams of gangs from traces and generators."""
