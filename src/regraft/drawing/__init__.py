"""Tables, charts and figures that know nothing of photos."""
