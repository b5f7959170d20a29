"""The function `regraft.export`: a classifier in the format of another runtime, compared with its run."""
