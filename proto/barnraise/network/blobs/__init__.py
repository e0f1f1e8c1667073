"""Blobs: content-addressed files, and their way between peers, whole or in pieces. No libp2p in here."""
