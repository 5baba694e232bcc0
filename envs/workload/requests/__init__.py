"""Requests: trace readers, fitted generators and what is done with a stream."""
