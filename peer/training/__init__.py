"""Inner steps on this machine: model, optimizer, memory, device."""
