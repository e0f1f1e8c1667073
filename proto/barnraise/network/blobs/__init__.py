"""Transfers blobs between peers, whole or in pieces. No libp2p in here."""
