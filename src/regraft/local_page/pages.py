"""All routes of the page, and the end of the work that it has begun.

In: the models of the server, and its options. Out: routes, as long as the server runs.
Why: the server knows nothing of the page, and the page must end its threads before the server ends.
Surprise: a training that is under way when the server is told to stop is not finished; the same button begins it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from starlette.routing import BaseRoute

from regraft.config.serving import ServeConfig
from regraft.local_page import label_routes, page_routes
from regraft.local_page.side_work import SideWork
from regraft.serving.service import Service


@contextmanager
def pages(service: Service, config: ServeConfig) -> Iterator[Sequence[BaseRoute]]:
    """Give the routes of the page in the ``with`` block, and stop its work at the end of the block."""
    work = SideWork()
    labelling = label_routes.labelling(service, [str(config.unlabelled)] if config.unlabelled else [])
    try:
        yield [*page_routes.routes(service, config, work), *label_routes.routes(labelling)]
    finally:
        labelling.stop()
        work.stop()
