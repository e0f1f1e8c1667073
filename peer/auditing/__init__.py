"""Trying contributions of closed rounds for the coordinator."""
