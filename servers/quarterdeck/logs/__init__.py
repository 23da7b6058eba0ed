"""Logs of pods, Loki and files, as records a model can read."""
