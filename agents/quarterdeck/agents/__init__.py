"""Headless A2A agents, built on the same tools that a person uses."""
