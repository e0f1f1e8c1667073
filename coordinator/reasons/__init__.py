"""The reasons of the coordinator's decisions, as types that `coordinator.messages` renders."""
