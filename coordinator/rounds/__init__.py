"""The open round: who is admitted, which contributions count, when it closes."""
