"""Reads lists to their end: a page may be short or empty before that."""

from collections.abc import Iterator
from typing import Protocol, TypeVar

import grpc

from services.cli.client import Service

PAGE_SIZE = 500


class ListRequest(Protocol):
    """What every list's request has."""

    page_size: int
    page_token: str


class ListPage(Protocol):
    """What every list's answer has."""

    next_page_token: str


Request = TypeVar("Request", bound=ListRequest)
Page = TypeVar("Page", bound=ListPage)


def pages(service: Service, method: "grpc.UnaryUnaryMultiCallable[Request, Page]", request: Request) -> Iterator[Page]:
    """The list's pages; ``request`` is moved on from page to page. Raises Failure."""
    request.page_size = request.page_size or PAGE_SIZE
    while True:
        page = service.call(method, request)
        yield page
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token
