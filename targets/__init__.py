"""What a device is: one TOML file each, and the code that reads them."""
