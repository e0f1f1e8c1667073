"""Continuing a run whose journal is lost, old or cut short, from the copies that others hold."""
