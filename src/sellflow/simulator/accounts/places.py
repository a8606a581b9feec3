"""Where the Customer Account API of a shop is: under the shop's own name, or under the simulator's."""

from __future__ import annotations

from starlette.requests import Request

from sellflow.simulator.hosts import SHOP_HOST


def base_of(request: Request) -> str:
    """Return the address before a shop's paths, for whoever asked by this one."""
    host, scheme = request.headers.get("host", ""), request.url.scheme
    if SHOP_HOST.fullmatch(host.lower()):
        return f"{scheme}://{host}"
    return f"{scheme}://{host}/shops/{request.path_params['domain']}"


def cookie_path(request: Request) -> str:
    """Return the path that a shop's cookies belong to."""
    is_own = SHOP_HOST.fullmatch(request.headers.get("host", "").lower())
    return "/" if is_own else f"/shops/{request.path_params['domain']}/"
