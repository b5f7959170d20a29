"""Every option once: its name, type, default value and meaning. Commands, TOML files and Python share them."""
