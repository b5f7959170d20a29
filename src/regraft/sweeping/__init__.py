"""The function `regraft.sweep`: many trainings on the same photos, compared on val."""
