"""The HTTP gateway: serves an archive folder to Hub clients and browsers."""

from barnraise.gateway.app import GatewayApp
from barnraise.gateway.limits import LIMITS, GatewayLimits
from barnraise.gateway.server import RunningGateway, listen

__all__ = ["LIMITS", "GatewayApp", "GatewayLimits", "RunningGateway", "listen"]
