"""The whole classifier: backbone, head and calibration; its evaluation, its answers and its run folder."""
