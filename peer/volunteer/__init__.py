"""A volunteer\'s life in a run: join, train, exchange, fold."""
