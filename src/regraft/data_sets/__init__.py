"""Sources of data sets that others keep: in an object store, on a hub, or in files of their own formats."""
