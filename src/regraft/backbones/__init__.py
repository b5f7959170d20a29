"""Backbones: pretrained networks, their names, their OpenVINO graphs, and their stages and blocks."""
