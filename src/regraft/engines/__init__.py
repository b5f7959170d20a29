"""Engines: they compute a backbone with OpenVINO on a CPU or with JAX on a GPU or TPU, and choose the precision."""
