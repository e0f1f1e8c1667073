"""One node of the swarm: hivemind\'s DHT, libp2p, gossip."""
