"""All routes of merchants and services."""

from __future__ import annotations

from fastapi import APIRouter

from sellflow.admin import compliance_api, panel, plan_api, queues_api, settings_api
from sellflow.admin.deliveries_api import delivery_routes
from sellflow.admin.endpoints_api import endpoint_routes
from sellflow.admin.letters_api import letter_routes
from sellflow.edge.audiences import merchants, services
from sellflow.edge.service_keys import Scope


def admin_routes() -> list[APIRouter]:
    """Return the routers, to be included in this order: a panel's address is an app's handle, whatever it is."""
    letters = [
        letter_routes(merchants("dead-letters")),
        letter_routes(services("dead-letters", Scope.DEADLETTERS_READ, Scope.DEADLETTERS_WRITE)),
    ]
    endpoints = [
        make(audience)
        for audience in (
            merchants("endpoints"),
            services("endpoints", Scope.ENDPOINTS_READ, Scope.ENDPOINTS_WRITE),
        )
        for make in (endpoint_routes, delivery_routes)
    ]
    return [
        settings_api.router,
        plan_api.router,
        *letters,
        *endpoints,
        compliance_api.router,
        queues_api.router,
        panel.router,
    ]
