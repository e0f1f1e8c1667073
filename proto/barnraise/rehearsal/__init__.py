"""Whether a base model trains: its files opened, and one packed step in a child program."""
