"""The bundle: objects, C driver, library, manifest, golden vectors."""
