"""The command `regraft embed`."""

from __future__ import annotations

from typing import Any

from regraft.cli import tables
from regraft.cli.arguments import given
from regraft.cli.options import EmbedOptions
from regraft.cli.printing import emit
from regraft.config.features import FeatureConfig
from regraft.exploring import embedding
from regraft.reporting.documents import EmbedReport


def embed(arguments: Any) -> int:
    """Run `regraft embed`. Returns the exit code."""
    options = EmbedOptions(**given(arguments, EmbedOptions))
    config = FeatureConfig(**given(arguments, FeatureConfig))
    document = embedding.embed(arguments.photos, options.out, config, options.run)
    emit(document, options.json, EmbedReport, tables.embedded)
    return 0
