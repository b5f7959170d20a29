"""One module for each protocol of the server."""
