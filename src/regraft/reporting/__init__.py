"""Reports of results: the records of the JSON documents, and plots of photos with their predictions."""
