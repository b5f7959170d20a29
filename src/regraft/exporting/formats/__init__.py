"""One module for each export format, and the protocol that an exporter follows."""
