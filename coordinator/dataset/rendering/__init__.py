"""Renders records to tokens: chat templates, which tokens are trained on, chats that are too long."""
