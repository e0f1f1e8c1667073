"""What the decisions of the coordinator answer with: types that `coordinator.messages` renders."""
