"""The HTTP gateway: any archive folder, a coordinator's own or a mirror's copy, for the tools people have."""

from barnraise.edge.gateway.app import GatewayApp
from barnraise.edge.gateway.server import Listening, listen

__all__ = ["GatewayApp", "Listening", "listen"]
