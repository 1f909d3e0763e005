"""Datasets: what there is to train on, as the workers that have it describe it."""
