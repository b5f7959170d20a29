"""Sources of labelled photos: folders, archives, tables, shards and public data sets."""
