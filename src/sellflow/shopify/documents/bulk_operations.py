"""Bulk operations, and what is run as one."""

from __future__ import annotations

from datetime import datetime

from sellflow.shopify.documents.customers import Customer
from sellflow.shopify.documents.document import Document
from sellflow.shopify.documents.nodes import CodedError, Node, Page, Payload, Reference
from sellflow.shopify.documents.orders import LineItem, OrderHead, RefundRevision


class BulkOperation(Reference):
    """How far an operation has come; its results can be read for seven days."""

    status: str
    error_code: str | None
    created_at: datetime
    completed_at: datetime | None
    object_count: int
    root_object_count: int
    file_size: int | None
    url: str | None
    partial_data_url: str | None


class ListedBulkOperation(BulkOperation):
    """An operation with the query that it runs."""

    query: str


class BulkQueryPayload(Payload):
    """The operation that was begun, or why none was."""

    bulk_operation: BulkOperation | None
    user_errors: tuple[CodedError, ...]


class BulkQueryRun(Node):
    """Answers `bulk_query_run`."""

    bulk_operation_run_query: BulkQueryPayload | None


class BulkCancelPayload(Payload):
    """The operation that ends now; its errors have no codes."""

    bulk_operation: BulkOperation | None


class BulkOperationCancelled(Node):
    """Answers `bulk_operation_cancel`."""

    bulk_operation_cancel: BulkCancelPayload | None


class BulkOperationFound(Node):
    """Answers `bulk_operation`."""

    bulk_operation: BulkOperation | None


class BulkOperations(Node):
    """Answers `bulk_operations`."""

    bulk_operations: Page[ListedBulkOperation]


class BulkOrder(OrderHead):
    """A line of `bulk_orders`; its line items are lines of their own."""

    refunds: tuple[RefundRevision, ...]


#: The model of each line of a result, by the type that its id names.
BULK_MODELS: dict[str, type[Reference]] = {"Customer": Customer, "Order": BulkOrder, "LineItem": LineItem}

_FIELDS = ("fields_bulk_operation",)

BULK_QUERY_RUN = Document("bulk_query_run", BulkQueryRun, _FIELDS)
BULK_OPERATION_CANCEL = Document("bulk_operation_cancel", BulkOperationCancelled, _FIELDS)
BULK_OPERATION = Document("bulk_operation", BulkOperationFound, _FIELDS)
BULK_OPERATIONS = Document("bulk_operations", BulkOperations, _FIELDS)
#: What is run in bulk is answered by a file: no model of ours is its answer.
BULK_CUSTOMERS = Document("bulk_customers", Node, ("fields_customer",))
BULK_ORDERS = Document("bulk_orders", Node, ("fields_order", "fields_line_item", "fields_money"))
