"""Writes and checks `contracts/schemas`: what outsiders rely on, generated from the code."""
