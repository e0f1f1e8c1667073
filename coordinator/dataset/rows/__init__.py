"""Turns rows, as files hold them, into records: recognizes their shape, honours or counts their fields."""
