"""The HTTP gateway: any archive folder, a coordinator's own or a mirror's copy, for the tools people have."""

from barnraise.gateway.app import GatewayApp
from barnraise.gateway.server import RunningGateway, listen

__all__ = ["GatewayApp", "RunningGateway", "listen"]
