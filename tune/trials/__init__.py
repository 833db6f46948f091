"""Trials and final fits, and the one Tuner that runs a search."""
