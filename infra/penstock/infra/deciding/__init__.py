"""The write side: aggregates, decisions about commands, and what is remembered of both."""
